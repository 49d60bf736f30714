"""Blocks of cells -> results, with the next blocks read and tokenised while the device works.

In: an iterator of blocks and the three steps as functions. Out: results in block order, rows in row order.
One thread works ahead of a bounded queue; the device runs in the caller's thread. It knows no model.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.cells import Batch, CellBlock, CellFault, Result, TokenBlock

__all__ = ["Ahead", "Steps", "Timings", "run"]

_Item = TypeVar("_Item")
_DEPTH = 2
_JOIN_SECONDS = 5.0


@dataclass(slots=True)
class Timings:
    """Seconds by stage; each stage is written by one thread only."""

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
        A batch to arrays by output name, first axis the cells of the batch.
    outputs
        Output name to the shape of one cell's answer, for blocks in which no cell has one.
    tick
        Told, in the caller's thread, of each number of cells that is answered: a block may take minutes.
    """

    tokenise: Callable[[CellBlock], TokenBlock]
    pack: Callable[[TokenBlock], list[Batch]]
    infer: Callable[[Batch], dict[str, NDArray[Any]]]
    outputs: dict[str, tuple[int, ...]]
    tick: Callable[[int], None] = lambda cells: None


def run(blocks: Iterable[CellBlock], steps: Steps, timings: Timings) -> Iterator[Result]:
    """Answer every block, in order.

    Parameters
    ----------
    blocks
        Read in another thread, at most two blocks ahead.
    steps
        What happens to a block.
    timings
        Filled as the work goes on.

    Yields
    ------
    Result
        One for each block. An error of any step is raised here, once, after the thread has ended.
    """
    tokens = _tokenised(timings.timed("read", blocks), steps, timings)
    with Ahead(tokens, _DEPTH) as ahead:
        for block in timings.timed("queue", ahead):
            yield _answer(block, steps, timings)


def _tokenised(blocks: Iterator[CellBlock], steps: Steps, timings: Timings) -> Iterator[TokenBlock]:
    for block in blocks:
        with timings.during("tokenise"):
            tokens = steps.tokenise(block)
        yield tokens


def _answer(tokens: TokenBlock, steps: Steps, timings: Timings) -> Result:
    """Run the batches of a block and put the rows back where they came from."""
    n_cells = tokens.n_cells
    outputs = {name: np.full((n_cells, *shape), np.nan, np.float32) for name, shape in steps.outputs.items()}
    for batch in steps.pack(tokens):
        with timings.during("infer"):
            answers = steps.infer(batch)
        for name, rows in outputs.items():
            rows[batch.cells] = answers[name]
        steps.tick(len(batch.cells))
    faults, lengths = tokens.faults.copy(), np.diff(tokens.offsets).astype(np.int32)
    _mark_not_finite(outputs, faults, lengths)
    return Result(outputs, faults, lengths, tokens.first_row)


def _mark_not_finite(
    outputs: dict[str, NDArray[np.float32]], faults: NDArray[np.uint8], lengths: NDArray[np.int32]
) -> None:
    """A good cell whose answer overflowed becomes a bad cell: an infinity must not pass for a vector."""
    finite = np.ones(len(faults), bool)
    for rows in outputs.values():
        finite &= np.isfinite(rows).all(axis=tuple(range(1, rows.ndim)))
    faults[~finite & (faults == CellFault.NONE)] = CellFault.NOT_FINITE
    bad = faults != CellFault.NONE
    lengths[bad] = 0
    for rows in outputs.values():
        rows[bad] = np.nan


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

    def __iter__(self) -> Iterator[_Item]:
        while (found := self._queue.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found[0]

    def _produce(self) -> None:
        last: BaseException | None = None
        try:
            for item in self._items:
                self._put((item,))
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
