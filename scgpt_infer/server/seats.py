"""The models of a server, as the supervisor holds them: `Seats` starts, watches, exchanges and ends their processes.

In: names and paths. Out: a table of who answers where, told whenever it changes. It opens no model itself.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scgpt_infer.server import metrics
from scgpt_infer.server.children import Child
from scgpt_infer.server.desk import State
from scgpt_infer.server.refusals import Broken, Conflict, NotFound, Refusal, Unprocessable
from scgpt_infer.server.seat.spec import OPENER, Spec
from scgpt_infer.server.settings import ModelAsked, Settings
from scgpt_infer.server.wire import Message

__all__ = ["SOCKET", "Seats"]

SOCKET = "seat-{}"
"""Name of a seat's socket."""

_SWITCH_SECONDS = 1.0
"""For how long an exchanged seat takes what front ends send that have not heard yet."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0
_STEADY_SECONDS = 60.0
"""A seat that has lived for so long did not die of how it was started."""

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Seat:
    child: Child
    spec: Spec
    digest: str
    ending: bool = False


@dataclass(slots=True, eq=False)
class _Model:
    asked: ModelAsked
    generation: int = 0
    state: State = "loading"
    reason: str = ""
    seat: _Seat | None = None
    digest: str = ""
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    task: asyncio.Task[None] | None = None

    @property
    def socket(self) -> str | None:
        return None if self.seat is None else self.seat.spec.socket


class Seats:
    """The models.

    Parameters
    ----------
    settings
        Of the server.
    folder
        For their sockets, this user's alone.
    environment
        Variables of the processes.
    changed
        Told whenever the table is another one.
    opener
        What opens models.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        environment: Mapping[str, str],
        changed: Callable[[], None],
        opener: str = OPENER,
    ) -> None:
        self._settings, self._folder, self._environment = settings, folder, environment
        self._changed, self._opener = changed, opener
        self._models: dict[str, _Model] = {}
        self._number = 0
        self._ended = False

    async def open_first(self) -> None:
        """Open the models that were asked for at the start, one after the other: each measures what runs fastest.

        Raises
        ------
        Unprocessable
            One cannot be opened.
        """
        for asked in self._settings.models:
            self._models[asked.name] = _Model(asked)
        self._changed()
        for model in list(self._models.values()):
            async with model.changing:
                if model.seat is None and self._is_there(model):  # it may have been loaded or let go of meanwhile
                    self._take(model, await self._start(model))

    @property
    def first(self) -> list[str]:
        """Names of the models that were asked for at the start and not let go of since."""
        return [asked.name for asked in self._settings.models if asked.name in self._models]

    def table(self) -> list[dict[str, Any]]:
        """All models: name, generation, state and reason, and where they are reached."""
        return [
            {"status": (model.asked.name, model.generation, model.state, model.reason), "socket": model.socket}
            for model in self._models.values()
        ]

    def places(self) -> dict[str, str]:
        """Sockets of the models that answer, by name."""
        return {name: model.seat.spec.socket for name, model in list(self._models.items()) if model.seat is not None}

    @property
    def digests(self) -> dict[str, tuple[str, str]]:
        """Path and digest of each model that answers, by name."""
        return {
            name: (model.asked.path, model.digest) for name, model in self._models.items() if model.seat is not None
        }

    async def load(self, name: str) -> None:
        """Load a model of the folder of models or one of the start, or load one anew; returns when it answers.

        Raises
        ------
        NotFound, Unprocessable, Conflict
            It cannot be had; what answered under this name before goes on.
        """
        known = name in self._models
        model = self._models[name] if known else _Model(self._asked(name))
        if model.changing.locked():
            raise Conflict(f"The model {name} is being loaded or unloaded already.")
        self._models[name] = model
        async with model.changing:
            try:
                seat = await self._start(model)
            except BaseException:
                if not known:
                    del self._models[name]
                    self._changed()
                raise
            before = self._take(model, seat)
        if before is not None:
            await self._end(before, _SWITCH_SECONDS)

    async def unload(self, name: str) -> None:
        """Let go of a model, when it has answered what it has accepted.

        Raises
        ------
        NotFound
            There is none of this name.
        """
        model = self._models.get(name)
        if model is None:
            raise NotFound(f"There is no model {name!r} here.")
        async with model.changing:
            if not self._is_there(model):
                raise NotFound(f"The model {name} was let go of meanwhile.")
            del self._models[name]
            seat, model.seat = model.seat, None
            self._changed()
        if seat is not None:
            await self._end(seat, _SWITCH_SECONDS)

    async def close(self) -> None:
        """End all seats; what they have not answered is lost, so front ends end before."""
        self._ended = True
        for model in self._models.values():
            if model.task is not None:
                model.task.cancel()  # it may wait to start one
        seats = [model.seat for model in self._models.values() if model.seat is not None]
        await asyncio.gather(*(self._end(seat, 0.0) for seat in seats))

    def _is_there(self, model: _Model) -> bool:
        return self._models.get(model.asked.name) is model

    def _asked(self, name: str) -> ModelAsked:
        """A model that was let go of or never loaded: of the start, else of the folder."""
        for asked in self._settings.models:
            if asked.name == name:
                return asked
        return ModelAsked(name, str(self._in_folder(name)))

    def _in_folder(self, name: str) -> Path:
        """Path of a model of the folder of models: of its own entries, and nothing that a name leads to."""
        folder = self._settings.models_dir
        if folder is not None:
            for entry in folder.iterdir() if folder.is_dir() else ():
                if entry.name in (name, f"{name}.zip") and not entry.name.startswith("."):
                    return entry
        where = "no folder of models (--models-dir)" if folder is None else f"no such bundle in {folder}"
        raise NotFound(f"There is no model {name!r} to load: there is {where}.")

    def _take(self, model: _Model, seat: _Seat) -> _Seat | None:
        """Have a seat answer for its model from now on; the one that did before."""
        before, model.seat = model.seat, seat
        model.generation = seat.spec.generation
        if model.digest not in ("", seat.digest):
            _log.warning("The model %s is another bundle now, sha256:%s.", model.asked.name, seat.digest)
        model.digest = seat.digest
        model.state, model.reason = "ready", ""
        model.task = asyncio.create_task(self._watch(model, seat))
        self._changed()
        return before

    async def _start(self, model: _Model) -> _Seat:
        """A seat that is ready.

        Raises
        ------
        Unprocessable
            The model cannot be opened.
        Broken
            No process can be had.
        """
        self._number += 1  # never used again: front ends know by it which genes belong to which model
        settings = self._settings
        spec = Spec(
            name=model.asked.name,
            generation=self._number,
            path=model.asked.path,
            socket=str(self._folder / SOCKET.format(self._number)),
            expect=model.asked.expect,
            options=settings.options,
            reference=None if settings.reference is None else str(settings.reference),
            wait_seconds=settings.max_wait_ms / 1000,
            queue_seconds=settings.queue_seconds,
            queue_tokens=settings.queue_tokens,
            opener=self._opener,
        )
        try:
            child = await Child.start("scgpt_infer.server.seat.process", (), self._environment)
        except OSError as error:
            raise Broken(f"No process can be started for {model.asked.name}: {error.strerror}.") from error
        try:
            answer = await self._opened(child, spec)
        except BaseException:
            child.kill()
            raise
        if answer is not None and answer.kind == "ready":
            return _Seat(child, spec, answer.fields["digest"])
        fate = await child.fate()
        metrics.ended(child.process.pid)
        told = f"its process ended with {fate}" if answer is None else answer.fields["message"]
        raise Unprocessable(f"The model {model.asked.name} cannot be opened: {told}")

    async def _opened(self, child: Child, spec: Spec) -> Message | None:
        """What a seat says of a model that it was told to open."""
        settings = self._settings
        fields = {"spec": spec.told(), "log_format": settings.log_format, "log_level": settings.log_level}
        child.tell(Message("open", fields))
        return await child.hear()

    async def _watch(self, model: _Model, seat: _Seat) -> None:
        """Put another seat in the place of one that dies."""
        began = asyncio.get_running_loop().time()
        fate = await seat.child.fate()
        metrics.ended(seat.child.process.pid)
        if seat.ending or model.seat is not seat or self._ended:
            return
        _log.error("The process of %s ended with %s; another one takes its place.", model.asked.name, fate)
        metrics.restarted("seat")
        model.seat, model.state, model.reason = None, "loading", f"Its process ended with {fate}."
        self._changed()
        steady = asyncio.get_running_loop().time() - began > _STEADY_SECONDS
        await self._restart(model, 0.0 if steady else _FIRST_PAUSE)

    async def _restart(self, model: _Model, pause: float) -> None:
        while not self._ended:
            await asyncio.sleep(pause)
            async with model.changing:
                if model.seat is not None or not self._is_there(model):
                    return
                try:
                    self._take(model, await self._start(model))
                    return
                except Refusal as error:
                    _log.error("%s It is tried again.", error)
                    model.state, model.reason = "failed", str(error)
                    self._changed()
            pause = min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)

    async def _end(self, seat: _Seat, wait: float) -> None:
        """End a seat, when it has answered what it has."""
        await asyncio.sleep(wait)
        seat.ending = True
        if seat.child.process.returncode is not None:
            return
        seconds = 0.0 if self._ended else self._settings.grace_seconds
        seat.child.tell(Message("end", {"seconds": seconds}))
        try:
            async with asyncio.timeout(seconds + 10.0):
                await seat.child.fate()
        except TimeoutError:
            seat.child.kill()
            await seat.child.fate()
