"""What runs a model in a seat: `Work`, threads that take batches as soon as an instance is free.

Cells of requests come first, in turns of their clients; blocks of whole files fill what is left, and get one batch in
`FILES_TURN` when requests never end. In: tokens. Out: rows, told to whom they belong. It knows no socket.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from numpy.typing import NDArray

from scgpt_infer.server import metrics
from scgpt_infer.server.refusals import Broken, QueueFull
from scgpt_infer.server.seat.batch import Unit, units_of
from scgpt_infer.server.seat.queue import FairQueue
from scgpt_infer.server.seat.rate import Rate
from scgpt_infer.server.seat.request import Request
from scgpt_runtime.cells import AnyBatch, TokenBlock
from scgpt_runtime.errors import BundleChangedError, DeviceLostError

__all__ = ["FILES_TURN", "Limits", "Work", "Works"]

FILES_TURN = 8
"""While requests wait, one batch in so many is of a file."""

_WINDOW = 4
"""Batches an instance that are packed at a time: more lie together by length, and newcomers wait for them."""

_JOIN_SECONDS = 5.0

_log = logging.getLogger(__name__)


class Works(Protocol):
    """What is asked of an engine; see `scgpt_runtime.engine.Engine`."""

    @property
    def batch_tokens(self) -> int:
        """Most tokens of a batch."""
        ...

    def batches(self, tokens: TokenBlock) -> Sequence[AnyBatch]:
        """Cells of a block as batches."""
        ...

    def infer(self, batch: AnyBatch) -> dict[str, NDArray[Any]]:
        """Answer one batch; waits for an instance that is free."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may wait, and how long.

    Attributes
    ----------
    wait_seconds
        How long a cell may wait for company while nothing else is to do.
    queue_seconds
        A request that would wait longer is refused.
    queue_tokens
        Most tokens that wait.
    """

    wait_seconds: float
    queue_seconds: float
    queue_tokens: int


class Work:
    """Threads that answer batches. A context manager: leaving it ends them, each after the batch it is at.

    Parameters
    ----------
    name
        Of the model, for metrics.
    engine
        Open.
    instances
        Batches that are answered at a time.
    ahead
        Further threads that have a batch ready when an instance becomes free: on a GPU, where a batch is short.
    limits
        How much may wait.
    check
        Raises `BundleChangedError` where answers may not be those of the model.
    lost
        Told when the device stopped working, the model is not what it was, or a thread cannot go on; it ends the
        process, so that whoever waits asks another one.
    """

    def __init__(
        self,
        name: str,
        engine: Works,
        instances: int,
        ahead: int,
        limits: Limits,
        check: Callable[[], None],
        lost: Callable[[Exception], None],
    ) -> None:
        self._name, self._engine, self._instances, self._limits = name, engine, instances, limits
        self._check, self._lost = check, lost
        self._wake = threading.Condition()
        self._queue = FairQueue(max(1, engine.batch_tokens))
        self._units: deque[Unit] = deque()
        self._files: deque[Unit] = deque()
        self._since_file = 0
        self._at_work = 0
        self._telling = 0
        self._ended = False
        self.rate = Rate(instances)
        self._threads = [
            threading.Thread(target=self._run, name=f"scgpt-infer seat {number}", daemon=True)
            for number in range(instances + ahead)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._wake:
            self._ended = True
            self._wake.notify_all()
        until = time.monotonic() + _JOIN_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def ask(self, request: Request) -> None:
        """Take a request in; it ends by `Request.end`, in any thread.

        Raises
        ------
        QueueFull
            It would wait for too long. The error says after how many seconds to try again.
        """
        if request.done:
            request.finish()
            return
        with self._wake:
            self._admit(request)
            self._queue.put(request)
            self._tell()
            self._wake.notify_all()

    def file(self, units: Sequence[Unit]) -> None:
        """Take batches of a file in, which wait behind all requests."""
        with self._wake:
            self._files.extend(units)
            self._wake.notify_all()

    def cancel(self, request: Request) -> None:
        """Let go of a request whose answer nobody wants."""
        with self._wake:
            request.gone = True
            self._queue.remove(request)
            self._tell()

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is at work, and all that was answered is told."""
        with self._wake:
            return not (self._queue.cells or self._units or self._files or self._at_work or self._telling)

    def _admit(self, request: Request) -> None:
        packed = sum(unit.tokens for unit in self._units)
        waiting = packed + self._queue.tokens
        tokens = waiting + request.n_tokens
        before = packed + self._queue.before(request.client, request.n_tokens)
        seconds = self.rate.seconds(before + request.n_tokens)
        if not waiting or (seconds <= self._limits.queue_seconds and tokens <= self._limits.queue_tokens):
            return
        over = max(self.rate.seconds(tokens - self._limits.queue_tokens), seconds - self._limits.queue_seconds)
        raise QueueFull(
            f"{self._queue.cells:,} cells wait for {self._name} already, {waiting:,} tokens; with these "
            f"{request.tokens.n_cells:,} the last would wait {seconds:.1f} s. Try again later, or with fewer cells.",
            max(1.0, over),
        )

    def _tell(self) -> None:
        metrics.queued(self._name, self._queue.tokens, self._queue.cells)

    def _run(self) -> None:
        try:
            while (unit := self._next()) is not None:
                self._answer(unit)
        except (DeviceLostError, BundleChangedError) as error:
            self._lost(error)
        except Exception as error:  # without this thread whoever waits would wait for ever
            _log.exception("No more batches can be answered.")
            self._lost(error)

    def _answer(self, unit: Unit) -> None:
        started = time.perf_counter()
        try:
            answers = self._engine.infer(unit.batch)
            self._check()
        except (DeviceLostError, BundleChangedError):
            raise
        except Exception as error:
            _log.exception("A batch of %d cells was not answered.", len(unit.batch.cells))
            unit.owner.fail(Broken(f"The model failed at a batch with these cells: {error}"))
            with self._wake:
                self._at_work -= 1
                self.rate.end(0, time.monotonic())
                self._wake.notify_all()
            return
        seconds = time.perf_counter() - started
        with self._wake:  # the model is free from here on, while answers are told
            self._at_work -= 1
            self._telling += 1
            self.rate.end(unit.tokens, time.monotonic())
            whole = unit.owner.put(unit.batch, answers, seconds)
            self._wake.notify_all()
        metrics.stage(self._name, "infer", seconds)
        metrics.batch(self._name, len(unit.batch.cells), unit.tokens, unit.batch.n_tokens - unit.tokens)
        for ending in whole:
            ending.finish()
        with self._wake:
            self._telling -= 1

    def _next(self) -> Unit | None:
        """The next batch for the model; waits for one. None when all is over."""
        with self._wake:
            while not self._ended:
                now = time.monotonic()
                unit = self._ready(now)
                if unit is not None:
                    self._at_work += 1
                    self.rate.begin(now)
                    return unit
                oldest = self._queue.oldest
                self._wake.wait(None if oldest is None else max(0.0, oldest + self._limits.wait_seconds - now))
        return None

    def _ready(self, now: float) -> Unit | None:
        if self._files and self._since_file >= FILES_TURN:
            return self._of_file()
        while self._units or self._pack(now):
            unit = self._units.popleft()
            if unit.owner.wanted:
                self._since_file += 1
                return unit
        return self._of_file() if self._files else None

    def _of_file(self) -> Unit | None:
        self._since_file = 0
        while self._files:
            unit = self._files.popleft()
            if unit.owner.wanted:
                return unit
        return None

    def _pack(self, now: float) -> bool:
        """Make batches of the cells whose turn it is, if they need not wait for company."""
        oldest = self._queue.oldest
        if oldest is None:
            return False
        budget = self._engine.batch_tokens * self._instances
        alone = self._queue.tokens < budget and now < oldest + self._limits.wait_seconds
        if alone and self._at_work < self._instances:
            return False
        self._queue.expire(now)
        slices = self._queue.take(_WINDOW * budget, now)
        for piece in slices:
            if piece.request.begun is None:
                piece.request.begun = now
                metrics.stage(self._name, "queue", now - piece.request.arrived)
        self._tell()
        self._units.extend(units_of(slices, self._engine.batches))
        return bool(self._units)
