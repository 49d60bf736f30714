"""A front end's link to a seat: `Link`, questions out, answers in, in any order.

It knows messages and their numbers, not what they mean.
"""

import asyncio
import itertools
from contextlib import suppress
from typing import Self

from scgpt_infer.server.children import LIMIT
from scgpt_infer.server.refusals import Refusal
from scgpt_infer.server.wire import Message, packed, read

__all__ = ["Link", "LinkLost"]


class LinkLost(Exception):  # noqa: N818 - seen by the desk alone, which asks again
    """The seat is gone, with what it was asked."""


class Link:
    """Connected to a seat; `open` gives it.

    Attributes
    ----------
    lost
        Set when the seat is gone.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self.lost = asyncio.Event()
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, path: str) -> Self:
        """Connect to a seat.

        Raises
        ------
        LinkLost
            Nobody listens there.
        """
        try:
            return cls(*await asyncio.open_unix_connection(path, limit=LIMIT))
        except OSError as error:
            raise LinkLost from error

    async def ask(self, message: Message) -> Message:
        """The answer to a message. A task that is cancelled has the seat let go of it.

        Raises
        ------
        LinkLost
            The seat went away before it answered.
        Refusal
            There is no answer.
        """
        if self.lost.is_set():
            raise LinkLost
        number = next(self._numbers)
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._send(Message(message.kind, {**message.fields, "id": number}, message.arrays))
            with suppress(OSError):  # the seat is gone: the task that reads ends the wait for an answer
                await self._writer.drain()
            answer = await future
        except asyncio.CancelledError:
            self._send(Message("cancel", {"id": number}))
            raise
        finally:
            self._waiting.pop(number, None)
        if answer.kind == "refused":
            raise _refusal(answer)
        return answer

    def close(self) -> None:
        """Let go of the link."""
        self._task.cancel()
        self._end()

    def _send(self, message: Message) -> None:
        if not self._writer.is_closing():
            self._writer.writelines(packed(message))

    async def _read(self) -> None:
        try:
            while (message := await read(self._reader)) is not None:
                future = self._waiting.get(message.fields.get("id", -1))
                if future is not None and not future.done():
                    future.set_result(message)
        except OSError:
            pass
        finally:
            self._end()

    def _end(self) -> None:
        self.lost.set()
        self._writer.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(LinkLost())


def _refusal(message: Message) -> Refusal:
    fields = message.fields
    refusal = Refusal(fields["message"], fields["retry_after"])
    refusal.status, refusal.code = fields["status"], fields["code"]
    return refusal
