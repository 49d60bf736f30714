"""Blocks of cells -> results, with the next blocks read and tokenised while the instances work.

In: an iterator of blocks and the three steps as functions. Out: results in block order, rows in row order.
One thread works ahead of a bounded queue, one for each instance answers batches; at most two blocks are at
work, so that no instance waits for the last batch of a block. It knows no model.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.cells import AnyBatch, CellBlock, CellFault, Result, TokenBlock
from scgpt_runtime.instances import Instances

__all__ = ["Ahead", "Steps", "Timings", "run"]

_Item = TypeVar("_Item")
_DEPTH = 2
_AT_WORK = 2
_JOIN_SECONDS = 5.0


@dataclass(slots=True)
class Timings:
    """Seconds by stage; each stage is written by one thread only.

    ``read`` and ``tokenise`` run beside ``infer``; ``queue`` is the time in which all instances waited for
    tokens; ``infer`` is the time inside the session, summed over the instances and divided by their number.
    """

    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("read", "tokenise", "queue", "infer"), 0.0)
    )

    def timed(self, stage: str, items: Iterable[_Item]) -> Iterator[_Item]:
        """The same items; the wait for each is added to a stage."""
        iterator = iter(items)
        while True:
            with self.during(stage):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item
            del item  # or it would be held while the next one is made

    def during(self, stage: str) -> "_Clock":
        """Context manager: the time inside is added to a stage."""
        return _Clock(self.seconds, stage)


class _Clock:
    def __init__(self, seconds: dict[str, float], stage: str) -> None:
        self._seconds, self._stage = seconds, stage

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._stage] += time.perf_counter() - self._start


@dataclass(frozen=True, slots=True)
class Steps:
    """What happens to a block, as functions.

    Attributes
    ----------
    tokenise
        Runs in the thread that works ahead.
    pack
        A block of tokens to its batches.
    infer
        A batch to arrays by output name, first axis the cells of the batch. Called from `instances` threads at once.
    outputs
        Output name to the shape of one cell's answer, for blocks in which no cell has one.
    of_tokens
        Answers have a second axis, that of a cell's tokens; `outputs` says the shape behind it.
    instances
        Batches that may be answered at a time.
    tick
        Told, in the caller's thread, of each number of cells that is done with: a block may take minutes.
    """

    tokenise: Callable[[CellBlock], TokenBlock]
    pack: Callable[[TokenBlock], Sequence[AnyBatch]]
    infer: Callable[[AnyBatch], dict[str, NDArray[Any]]]
    outputs: dict[str, tuple[int, ...]]
    of_tokens: bool = False
    instances: int = 1
    tick: Callable[[int], None] = lambda cells: None


def run(blocks: Iterable[CellBlock], steps: Steps, timings: Timings) -> Iterator[Result]:
    """Answer every block, in order.

    Parameters
    ----------
    blocks
        Read in another thread, at most two blocks ahead of those at work.
    steps
        What happens to a block.
    timings
        Filled as the work goes on.

    Yields
    ------
    Result
        One for each block. An error of any step is raised here, once, after the threads have ended.
    """
    tokens = _tokenised(timings.timed("read", blocks), steps, timings)
    with Ahead(tokens, _DEPTH) as ahead, Instances[_Open](steps.infer, steps.instances) as instances:
        coming, at_work = _Coming(ahead, timings), deque[_Open]()
        while True:
            while len(at_work) < _AT_WORK and (block := coming.take(wait=not at_work)) is not None:
                at_work.append(_Open.of(block, steps, instances))
            if not at_work:
                break
            if at_work[0].left == 0:
                steps.tick(at_work[0].without_tokens)
                yield at_work.popleft().result()
                continue
            done = instances.take()
            timings.seconds["infer"] += done.seconds / steps.instances
            done.tag.put(done.batch, done.answers)
            steps.tick(len(done.batch.cells))
        coming.fail()


class _Coming:
    """Blocks of tokens as they come; an error of the thread ahead waits until the blocks at work are answered."""

    def __init__(self, ahead: "Ahead[TokenBlock]", timings: Timings) -> None:
        self._ahead, self._timings = ahead, timings
        self._ended = False
        self._error: Exception | None = None

    def take(self, wait: bool) -> TokenBlock | None:
        """The next block; None when there is none any more, or, without `wait`, none yet."""
        if self._ended or not (wait or self._ahead.ready()):
            return None
        try:
            with self._timings.during("queue"):
                block = self._ahead.take()
        except Exception as error:
            self._ended, self._error = True, error
            return None
        self._ended = block is None
        return block

    def fail(self) -> None:
        """Raise the error that waits, if there is one."""
        if self._error is not None:
            raise self._error


def _tokenised(blocks: Iterator[CellBlock], steps: Steps, timings: Timings) -> Iterator[TokenBlock]:
    for block in blocks:
        with timings.during("tokenise"):
            tokens = steps.tokenise(block)
        del block  # the largest there is: gone before the next one is read
        yield tokens


@dataclass(slots=True)
class _Open:
    """A block at work: its tokens, the rows that are there, the batches that are not, the cells that are in none.

    There is a row for each cell or, `of_tokens`, for each token; `cell_of` says whose each row is.
    """

    tokens: TokenBlock
    of_tokens: bool
    cell_of: NDArray[np.int64]
    outputs: dict[str, NDArray[np.float32]]
    left: int
    without_tokens: int

    @classmethod
    def of(cls, tokens: TokenBlock, steps: Steps, instances: "Instances[_Open]") -> Self:
        """Open a block and hand in its batches."""
        cell_of = np.arange(tokens.n_cells)
        if steps.of_tokens:
            cell_of = np.repeat(cell_of, np.diff(tokens.offsets))
        rows = {name: np.full((len(cell_of), *shape), np.nan, np.float32) for name, shape in steps.outputs.items()}
        packed = steps.pack(tokens)
        without = tokens.n_cells - sum(len(batch.cells) for batch in packed)
        opened = cls(tokens, steps.of_tokens, cell_of, rows, len(packed), without)
        for batch in packed:
            instances.hand_in(opened, batch)
        return opened

    def put(self, batch: AnyBatch, answers: dict[str, NDArray[Any]]) -> None:
        """Rows of a batch to where they belong."""
        for name, rows in self.outputs.items():
            if not self.of_tokens:
                rows[batch.cells] = answers[name]
                continue
            for place, (start, length) in enumerate(zip(self.tokens.offsets[batch.cells], batch.lengths, strict=True)):
                rows[start : start + length] = answers[name][place, :length]
        self.left -= 1

    def result(self) -> Result:
        """What the block became."""
        faults, lengths = self.tokens.faults.copy(), np.diff(self.tokens.offsets).astype(np.int32)
        _mark_not_finite(self.outputs, self.cell_of, faults, lengths)
        tokens = self.tokens if self.of_tokens else None
        return Result(self.outputs, faults, lengths, self.tokens.first_row, tokens)


def _mark_not_finite(
    outputs: dict[str, NDArray[np.float32]],
    cell_of: NDArray[np.int64],
    faults: NDArray[np.uint8],
    lengths: NDArray[np.int32],
) -> None:
    """A good cell whose answer overflowed becomes a bad cell: an infinity must not pass for a vector."""
    overflowed = np.zeros(len(faults), bool)
    for rows in outputs.values():
        overflowed[cell_of[~np.isfinite(rows).all(axis=tuple(range(1, rows.ndim)))]] = True
    faults[overflowed & (faults == CellFault.NONE)] = CellFault.NOT_FINITE
    bad = faults != CellFault.NONE
    lengths[bad] = 0
    for rows in outputs.values():
        rows[bad[cell_of]] = np.nan


class Ahead(Generic[_Item]):
    """Iterates over items that another thread produces, at most `depth` ahead.

    Leaving the context ends the thread, whatever ended the iteration: the end of the items, an error, Ctrl-C.

    Parameters
    ----------
    items
        Advanced in the thread alone, and closed there if it is a generator.
    depth
        Items that may wait.
    """

    def __init__(self, items: Iterator[_Item], depth: int) -> None:
        self._items = items
        self._queue: queue.Queue[tuple[_Item] | BaseException | None] = queue.Queue(depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._produce, name="scgpt-infer ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        while self._thread.is_alive():  # a full queue may hold the thread: make room until it has seen the event
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                break
        # A source that hangs must not hang the caller; the thread is a daemon.
        self._thread.join(_JOIN_SECONDS)

    def ready(self) -> bool:
        """Whether `take` would not wait."""
        return not self._queue.empty()

    def take(self) -> _Item | None:
        """The next item, or None when there is none any more. An error of the thread is raised here."""
        found = self._queue.get()
        if isinstance(found, BaseException):
            raise found
        return None if found is None else found[0]

    def __iter__(self) -> Iterator[_Item]:
        while (found := self.take()) is not None:
            yield found

    def _produce(self) -> None:
        last: BaseException | None = None
        try:
            for item in self._items:
                self._put((item,))
                del item
                if self._stop.is_set():
                    break
        except BaseException as error:  # an interrupt or exit in the thread, too, has to reach the caller
            last = error
        try:
            close = getattr(self._items, "close", None)
            if close is not None:
                close()
        except BaseException as error:
            last = last or error
        self._put(last)

    def _put(self, found: tuple[_Item] | BaseException | None) -> None:
        while not self._stop.is_set():
            try:
                return self._queue.put(found, timeout=0.05)
            except queue.Full:
                continue
        return None
