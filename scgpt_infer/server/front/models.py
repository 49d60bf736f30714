"""The models of a server, as a front end reaches them: `Models`, a `Desk` over links to seats.

In: the supervisor's table of models. Out: answers. What a seat had not answered when it went away is asked again of the
one that takes its place, once: nothing that was accepted is lost without an answer.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from scgpt_infer.server import tracing
from scgpt_infer.server.asking import Answer, Ask
from scgpt_infer.server.desk import Here, Status
from scgpt_infer.server.front.link import Link, LinkLost
from scgpt_infer.server.refusals import Broken, Expired, NotFound, NotReady
from scgpt_infer.server.wire import Message
from scgpt_infer.writers.sink import Column, Part
from scgpt_runtime.manifest import Manifest
from scgpt_runtime.vocab import Vocabulary

__all__ = ["Entered", "Models"]

_TRIES = 2
"""Seats that a request is given to, one after the other: one that ends two of them is at fault itself."""

_AGAIN_SECONDS = 5.0
"""After how long a client shall ask again for a model that is being loaded."""

_PAUSE_SECONDS = 0.2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entered:
    """A line of the supervisor's table.

    Attributes
    ----------
    status
        Of the model.
    socket
        Where it is reached; None while it is not.
    """

    status: Status
    socket: str | None


@dataclass(frozen=True, slots=True)
class _Open:
    here: Here
    link: Link


class Models:
    """The models, each behind a link that is opened again when it breaks.

    Parameters
    ----------
    control
        Has the supervisor load or unload a model: ``load`` or ``unload``, and its name.
    patience
        Seconds for which a request waits for a seat that is being started again.
    prepare
        Makes ready what requests to a model need, in a thread, before it counts as one that answers.
    """

    def __init__(
        self,
        control: Callable[[str, str], Awaitable[None]],
        patience: float,
        prepare: Callable[[Here], object] = lambda here: None,
    ) -> None:
        self._control, self._patience, self._prepare = control, patience, prepare
        self._entered: dict[str, Entered] = {}
        self._open: dict[str, _Open] = {}
        self._last: dict[str, Here] = {}  # of models that have answered: requests wait while one is started again
        self._changed = asyncio.Condition()
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self.closing = False
        self._first: tuple[str, ...] | None = None

    async def enter(self, table: Sequence[Entered], first: Sequence[str]) -> None:
        """Take a new table over.

        Parameters
        ----------
        table
            All models, that of requests that name none first.
        first
            Names of those that were asked for at the start.
        """
        self._first = tuple(first)
        self._entered = {line.status.name: line for line in table}
        for line in table:
            if line.socket is not None and line.socket not in self._keepers:
                self._keepers[line.socket] = asyncio.create_task(self._keep(line.status.name, line.socket))
        for known in (self._open, self._last):
            for name in known.keys() - self._entered.keys():
                del known[name]
        await self._tell()

    @property
    def ready(self) -> bool:
        """See `Desk`."""
        return not self.closing and self._first is not None and all(name in self._open for name in self._first)

    def statuses(self) -> Sequence[Status]:
        """See `Desk`."""
        return [self._status(line.status) for line in self._entered.values()]

    def here(self, name: str | None = None) -> Here:
        """See `Desk`."""
        asked = name or next(iter(self._entered), "")
        found = self._open.get(asked)
        if found is not None:
            return found.here
        line = self._entered.get(asked)
        if line is None:
            there = ", ".join(self._entered) or "none"
            raise NotFound(f"There is no model {asked!r} here. There are: {there}. GET /v1/models lists them.")
        if line.status.state == "failed":
            raise NotReady(f"The model {asked} could not be opened: {line.status.reason}")
        if asked in self._last:
            return self._last[asked]
        raise NotReady(f"The model {asked} is being loaded. Try again soon.", _AGAIN_SECONDS)

    async def ask(self, here: Here, ask: Ask) -> Answer:
        """See `Desk`."""
        if ask.within is None:
            return await self._ask(here, ask)
        late = Expired("The time by which the answer was wanted has passed.")
        if ask.within <= 0:
            raise late
        try:
            async with asyncio.timeout(ask.within):
                return await self._ask(here, ask)
        except TimeoutError:
            raise late from None

    async def call(self, here: Here, task: str, body: bytes, client: str, within: float | None) -> bytes:
        """See `Desk`."""
        fields = {"task": task, "body": body, "client": client, "within": within}
        try:
            async with asyncio.timeout(within):
                answer = await self._answered(here, Message("call", fields))
        except TimeoutError:
            raise Expired("The time by which the answer was wanted has passed.") from None
        document: bytes = answer.fields["answer"]
        return document

    async def load(self, name: str) -> None:
        """See `Desk`. What it returns from is a model that this front end has reached."""
        await self._control("load", name)

        def reached() -> bool:
            line, found = self._entered.get(name), self._open.get(name)
            return line is not None and found is not None and found.here.generation >= line.status.generation

        with suppress(TimeoutError):  # who asks then is told that it is being loaded
            async with asyncio.timeout(self._patience), self._changed:
                await self._changed.wait_for(lambda: reached() or self._hopeless(name))

    async def unload(self, name: str) -> None:
        """See `Desk`."""
        await self._control("unload", name)

    async def close(self) -> None:
        """Let go of all links."""
        tasks = list(self._keepers.values())
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def _ask(self, here: Here, ask: Ask) -> Answer:
        fields = {"task": ask.task, "client": ask.client, "within": ask.within, "options": dict(ask.options)}
        cells = ask.cells
        message = Message("ask", fields, (cells.indptr, cells.tokens, cells.values))
        answer = await self._answered(here, message)
        told = answer.fields
        tracing.stages(told["seconds"])
        vectors, *columns = (array.copy() for array in answer.arrays)
        names = [name for name, _ in told["columns"]]
        part = Part(0, vectors, tuple(told["reasons"]), dict(zip(names, columns, strict=True)))
        described = tuple(Column(name, tuple(words)) for name, words in told["columns"])
        return Answer(part, described, told["kind"], {**here.run, **told["run"]}, told["tokens"], told["seconds"])

    async def _answered(self, here: Here, message: Message) -> Message:
        for _ in range(_TRIES):
            found = await self._reached(here)
            try:
                return await found.link.ask(message)
            except LinkLost:
                _log.warning("The process of %s went away with a request; it is asked again.", here.name)
        raise Broken(f"The process of the model {here.name} ended {_TRIES} times while it was at these cells.")

    async def _reached(self, here: Here) -> _Open:
        """The model, with the same genes and vectors as when its cells were looked up."""

        def there() -> _Open | None:
            found = self._open.get(here.name)
            return None if found is None or found.link.lost.is_set() else found

        try:
            async with asyncio.timeout(self._patience), self._changed:
                await self._changed.wait_for(lambda: there() is not None or self._hopeless(here.name))
        except TimeoutError:
            raise NotReady(f"The model {here.name} is being started again. Try again soon.", _AGAIN_SECONDS) from None
        found = there()
        if found is None:
            self.here(here.name)  # raises, and says why
            raise NotReady(f"The model {here.name} went away just now. Try again soon.", _AGAIN_SECONDS)
        now = found.here
        if now is not here and (now.vector_id, now.vocabulary) != (here.vector_id, here.vocabulary):
            raise NotReady(f"The model {here.name} was loaded anew meanwhile, as another one. Ask again.", 1.0)
        return found

    def _hopeless(self, name: str) -> bool:
        """Whether there is no use in waiting for a model."""
        line = self._entered.get(name)
        return line is None or line.status.state == "failed"

    def _status(self, status: Status) -> Status:
        """A model is ready for a front end when it has reached it."""
        if status.state == "ready" and status.name not in self._open:
            return Status(status.name, status.generation, "loading")
        return status

    async def _keep(self, name: str, socket: str) -> None:
        """Keep a link to a seat for as long as the table has it."""
        try:
            link = await Link.open(socket)
            here = await asyncio.to_thread(self._prepared, await link.ask(Message("about")))
        except LinkLost:
            await asyncio.sleep(_PAUSE_SECONDS)
            del self._keepers[socket]
            if any(line.socket == socket for line in self._entered.values()):
                _log.warning("The process of %s cannot be reached. It is tried again.", name)
                self._keepers[socket] = asyncio.create_task(self._keep(name, socket))
            return
        except Exception:  # a task's error is seen by nobody else
            _log.exception("The model %s cannot be used by this front end.", name)
            del self._keepers[socket]
            return
        try:
            line = self._entered.get(name)
            if line is not None and line.socket == socket:
                self._open[name], self._last[name] = _Open(here, link), here
                await self._tell()
            await link.lost.wait()
        finally:
            self._keepers.pop(socket, None)
            link.close()
            found = self._open.get(name)
            if found is not None and found.link is link:
                del self._open[name]
            await self._tell()

    def _prepared(self, about: Message) -> Here:
        here = _here(about)
        self._prepare(here)
        return here

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _here(about: Message) -> Here:
    fields = about.fields
    manifest, vocabulary = Manifest.from_json(fields["manifest"]), Vocabulary.from_json(fields["vocabulary"])
    return Here(
        name=fields["name"],
        generation=fields["generation"],
        manifest=manifest,
        vocabulary=vocabulary,
        vector_id=fields.get("vector_id", ""),
        abilities=tuple(fields["abilities"]),
        labels=tuple(fields["labels"]),
        run=fields.get("run", {}),
        max_length=fields.get("max_length", manifest.tokenizer.max_length),
    )
