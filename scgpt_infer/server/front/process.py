"""A front end as a process of its own: `serve`, told over a link by the supervisor which models there are.

Words to it: ``begin {settings, number}``, ``table {models, first}``, ``files``, ``drain``, ``end``,
``done {id, error}``. Its words: ``listening``, ``failed {message}``, ``load {id, name}``, ``unload {id, name}``.
"""

import asyncio
import itertools
import signal
import socket
from typing import Any

import uvloop

from scgpt_infer.server import logs, tracing
from scgpt_infer.server.bodies.warm import warm
from scgpt_infer.server.children import LIMIT
from scgpt_infer.server.desk import Status
from scgpt_infer.server.front.app import app_of
from scgpt_infer.server.front.door import Door
from scgpt_infer.server.front.entry import Entry
from scgpt_infer.server.front.keys import Keys
from scgpt_infer.server.front.listening import Server
from scgpt_infer.server.front.models import Entered, Models
from scgpt_infer.server.front.tables import Tables
from scgpt_infer.server.refusals import Refusal
from scgpt_infer.server.settings import Settings
from scgpt_infer.server.wire import Message, packed, read
from scgpt_runtime.errors import ScgptInferError

__all__ = ["serve"]

_PATIENCE_SECONDS = 30.0
"""For how long requests wait for a model whose process is started again."""


def serve(link: int, listener: int) -> None:
    """Be a front end until the supervisor says ``end``, or is gone.

    Parameters
    ----------
    link
        File descriptor of the link to the supervisor.
    listener
        File descriptor of the socket that listens.
    """
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)  # the supervisor says when to end
    warm()
    uvloop.run(_serve(socket.socket(fileno=link), socket.socket(fileno=listener)))


async def _serve(link: socket.socket, listener: socket.socket) -> None:
    link.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=link, limit=LIMIT)
    first = await read(reader)
    if first is None:
        return
    settings, name = Settings.heard(first.fields["settings"]), f"frontend-{first.fields['number']}"
    logs.configure(settings.log_format, settings.log_level, name)
    if settings.tracing:
        tracing.configure(name)
    control = _Control(writer)
    tables = Tables()
    models = Models(control.ask, _PATIENCE_SECONDS, tables.of)
    try:
        keys = None if settings.keys_file is None else Keys(settings.keys_file)
        app = app_of(Door(models, settings, tables), keys)
        server = Server(app, settings)
    except ScgptInferError as error:
        writer.writelines(packed(Message("failed", {"message": str(error)})))
        await writer.drain()
        return
    hearing = asyncio.create_task(_hear(reader, models, control, keys, app, server))
    writer.writelines(packed(Message("listening")))
    await server.serve(sockets=[listener])
    hearing.cancel()
    await models.close()
    await asyncio.to_thread(tracing.finish)


async def _hear(
    reader: asyncio.StreamReader, models: Models, control: "_Control", keys: Keys | None, app: Entry, server: Server
) -> None:
    """Do what the supervisor says."""
    try:
        while (message := await read(reader)) is not None:
            fields = message.fields
            if message.kind == "table":
                table = [Entered(Status(*line["status"]), line["socket"]) for line in fields["models"]]
                await models.enter(table, fields["first"])
            elif message.kind == "files":
                for held in (keys, server.certificate):
                    if held is not None:
                        held.reload()
            elif message.kind == "drain":
                models.closing = app.closing = True
            elif message.kind == "end":
                server.should_exit = True
            elif message.kind == "done":
                control.done(fields)
    finally:
        server.should_exit = server.force_exit = True  # the supervisor is gone, or cannot be heard any more


class _Control:
    """Words to the supervisor that want an answer."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[None]] = {}

    async def ask(self, word: str, name: str) -> None:
        """Have a model loaded or unloaded; returns when it is."""
        number, future = next(self._numbers), asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._writer.writelines(packed(Message(word, {"id": number, "name": name})))
        try:
            await future
        finally:
            self._waiting.pop(number, None)

    def done(self, fields: Any) -> None:
        """The supervisor has done it, or tells why not."""
        future = self._waiting.get(fields["id"])
        if future is None or future.done():
            return
        if fields["error"] is None:
            future.set_result(None)
            return
        status, code, message = fields["error"]
        refusal = Refusal(message)
        refusal.status, refusal.code = status, code
        future.set_exception(refusal)
