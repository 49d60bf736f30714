"""The process that watches over a server's others: `serve`, until a signal ends it.

It binds the port, starts front ends and seats, starts again what dies, and ends all in order: first no more requests
are taken, then those that were accepted are answered. It opens no model and reads no request.
"""

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from scgpt_infer.server import logs, metrics
from scgpt_infer.server.children import Child
from scgpt_infer.server.folder import private_folder
from scgpt_infer.server.fronts import Fronts
from scgpt_infer.server.refusals import Refusal, refusal_of
from scgpt_infer.server.seat.spec import OPENER
from scgpt_infer.server.seats import SOCKET, Seats
from scgpt_infer.server.settings import Settings
from scgpt_infer.server.wire import Message
from scgpt_runtime.errors import OptionError

if TYPE_CHECKING:
    from scgpt_infer.server.jobs.store import JobStore

__all__ = ["INCOMPLETE", "serve"]

_T = TypeVar("_T")

INCOMPLETE = 3
"""Exit code where accepted requests were not answered within the grace time."""

_BACKLOG = 2048
_SOCKET_BYTES = 107
_LOOK_SECONDS = 0.05

_log = logging.getLogger(__name__)


def serve(settings: Settings, *, opener: str = OPENER) -> int:
    """Serve until SIGTERM or SIGINT.

    Parameters
    ----------
    settings
        All that an operator has said.
    opener
        What opens models in their processes; another one stands in for the model in benchmarks.

    Returns
    -------
    int
        0; or `INCOMPLETE`.

    Raises
    ------
    OptionError
        The port cannot be had, or a model cannot be opened at the start.
    """
    logs.configure(settings.log_format, settings.log_level, "supervisor")
    store = _store(settings)
    with private_folder() as folder, _listener(settings) as listener:
        _check_length(folder)
        counts = folder / "metrics"
        counts.mkdir()
        os.environ[metrics.FOLDER] = str(counts)
        return asyncio.run(_Supervisor(settings, listener, folder, store, opener).run())


def _store(settings: Settings) -> "JobStore | None":
    """The folder of jobs, made where it is missing."""
    if settings.jobs_dir is None:
        return None
    from scgpt_infer.server.jobs.store import JobStore

    try:
        return JobStore(settings.jobs_dir)
    except OSError as error:
        raise OptionError(
            f"The folder for jobs {settings.jobs_dir} cannot be used: {error.strerror}. Name one that this user may "
            "write to (--jobs-dir)."
        ) from error


def _check_length(folder: Path) -> None:
    """Make sure that sockets may have names in a folder: the system keeps 107 bytes for a path."""
    if len(os.fsencode(folder / SOCKET.format(10**9))) > _SOCKET_BYTES:
        raise OptionError(
            f"The folder for temporary files, {folder.parent}, has too long a name. Set TMPDIR to another."
        )


def _listener(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise OptionError(
            f"{settings.host}:{settings.port} cannot be listened on: {error.strerror}. Name another --host or --port."
        ) from error
    return listener


class _Supervisor:
    def __init__(
        self, settings: Settings, listener: socket.socket, folder: Path, store: "JobStore | None", opener: str
    ) -> None:
        self._settings, self._listener, self._store = settings, listener, store
        environment = {metrics.FOLDER: os.environ[metrics.FOLDER]}
        self._seats = Seats(settings, folder, environment, self._publish, opener)
        self._fronts = Fronts(settings, listener.fileno(), environment, self._table, self._heard, self._fail)
        self._ending = asyncio.Event()
        self._at_once = asyncio.Event()
        self._failed: str | None = None
        self._asked: set[asyncio.Task[None]] = set()
        self._reloading = asyncio.Lock()
        self._no_more_jobs = threading.Event()
        self._jobs: threading.Thread | None = None

    async def run(self) -> int:
        """Serve until a signal comes."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._end)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._begin(self._reload()))
        try:
            self._fronts.start()
            host, port = self._listener.getsockname()[:2]
            scheme = "http" if self._settings.tls_cert is None else "https"
            _log.info("Listening.", extra={"url": f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"})
            self._look_for_jobs()
            await self._until_end(asyncio.create_task(self._seats.open_first()))
            if self._failed is not None:
                raise OptionError(self._failed)
            return await self._drain()
        finally:
            self._no_more_jobs.set()
            await self._fronts.close()
            await self._seats.close()

    async def _until_end(self, opening: asyncio.Task[None]) -> None:
        """Wait for a signal; or for the models that cannot be opened."""
        ending = asyncio.create_task(self._ending.wait())
        await asyncio.wait({opening, ending}, return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            if (error := opening.exception()) is not None:
                self._failed = str(error)
                ending.cancel()
                return
            _log.info("All models are open.")
            await ending
        else:
            opening.cancel()
            with suppress(asyncio.CancelledError):
                await opening

    async def _drain(self) -> int:
        """Take no more requests, and have those answered that were accepted."""
        settings, loop = self._settings, asyncio.get_running_loop()
        _log.info("Ending: no more requests are taken.")
        self._no_more_jobs.set()  # each ends after the block that it is at, and goes on at the next start
        self._fronts.drain()
        await self._up_to(self._at_once.wait(), loop.time() + settings.drain_seconds)
        self._listener.close()  # who comes now is refused at once, and not left waiting
        self._fronts.end()
        until = loop.time() + settings.grace_seconds
        in_order = await self._up_to(self._fronts.wait(), until)
        if in_order is None:
            _log.warning("Requests were still at work after %g seconds.", settings.grace_seconds)
        while self._jobs is not None and self._jobs.is_alive() and not self._at_once.is_set() and loop.time() < until:
            await asyncio.sleep(_LOOK_SECONDS)  # what is left of a block then is done again
        _log.info("Ended.")
        return 0 if in_order else INCOMPLETE

    async def _up_to(self, work: Coroutine[Any, Any, _T], until: float) -> _T | None:
        """What comes of something; None where it is not done at some time."""
        try:
            async with asyncio.timeout_at(until):
                return await work
        except TimeoutError:
            return None

    def _end(self) -> None:
        """A signal: the first ends in order, a second one at once."""
        if self._ending.is_set():
            self._at_once.set()
            self._fronts.kill()
        self._ending.set()

    def _fail(self, told: str) -> None:
        """Nothing can be served."""
        self._failed = told
        self._ending.set()

    def _heard(self, front: Child, message: Message) -> None:
        if message.kind in ("load", "unload"):
            self._begin(self._change(front, message))

    async def _change(self, front: Child, message: Message) -> None:
        """Load or unload a model, as a front end was asked to."""
        fields, told = message.fields, None
        try:
            await (self._seats.load if message.kind == "load" else self._seats.unload)(fields["name"])
        except Exception as error:
            refusal: Refusal = refusal_of(error)
            told = (refusal.status, refusal.code, str(refusal))
        front.tell(Message("done", {"id": fields["id"], "error": told}))

    async def _reload(self) -> None:
        """SIGHUP: API keys and the certificate are read again, models whose bundles are other ones now loaded anew."""
        self._fronts.tell(Message("files"))
        async with self._reloading:  # the next one meets what was exchanged again meanwhile
            for name, (path, digest) in self._seats.digests.items():
                try:
                    await self._reload_if_other(name, path, digest)
                except Exception as error:
                    _log.error("The model %s stays as it is. %s", name, error)

    async def _reload_if_other(self, name: str, path: str, digest: str) -> None:
        from scgpt_infer.models import SHIPPED, is_bundle, open_bundle

        if path in SHIPPED or not await asyncio.to_thread(is_bundle, Path(path)):
            return  # a checkpoint, whose bundle lies in the cache under the digest of its files
        found = await asyncio.to_thread(open_bundle, path)
        if found.digest != digest:
            await self._seats.load(name)
            _log.info("The model %s was loaded anew.", name)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    def _publish(self) -> None:
        self._fronts.tell(self._table())

    def _table(self) -> Message:
        return Message("table", {"models": self._seats.table(), "first": self._seats.first})

    def _grace(self) -> float:
        return 0.0 if self._at_once.is_set() else self._settings.grace_seconds

    def _look_for_jobs(self) -> None:
        """Begin to look for jobs, where there is a folder of them."""
        settings = self._settings
        if self._store is None:
            return
        from scgpt_infer.server.jobs.loop import loop
        from scgpt_infer.server.jobs.turn import Terms

        def places() -> dict[str, Path]:
            return {name: Path(found) for name, found in self._seats.places().items()}

        terms = Terms(settings.jobs_max_bytes, settings.job_memory, grace=self._grace)
        arguments = (self._store, places, terms, self._no_more_jobs)
        named = {"workers": settings.job_workers, "ttl": settings.job_ttl}
        self._jobs = threading.Thread(target=loop, args=arguments, kwargs=named, name="scgpt-infer jobs")
        self._jobs.start()
