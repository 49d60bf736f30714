"""The one loop: source -> engine -> task. Spans of rows go in; `answered` gives the parts that they become.

`run` takes all cells of a source into one sink. It knows no format, no task and no model. Whatever ends it, the context
managers around it clean up; a device that fails on the way ends it with a result of the rows that were done.
"""

import resource
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.interrupts import deferred, honour
from scgpt_infer.readers import CellSource
from scgpt_infer.spans import grid
from scgpt_infer.summary import BadCells
from scgpt_infer.tasks import Task
from scgpt_infer.writers.sink import Part, Record, Sink, no_values
from scgpt_runtime.cells import CellBlock, Result
from scgpt_runtime.errors import CellsError, DeviceError, DeviceLostError, DeviceMemoryError, InternalError
from scgpt_runtime.ranges import RANGE_ROWS

__all__ = [
    "FULL",
    "LOST",
    "Answered",
    "Answering",
    "Blocks",
    "Progress",
    "Tally",
    "Told",
    "answered",
    "peak_bytes",
    "refuse_nothing",
    "run",
    "spent_since",
]

LOST = "the device was lost"
"""Why rows have no result that were not done when a GPU stopped working."""

FULL = "the device's memory ran out"
"""Why rows have no result that were not done when one cell alone did not fit any more."""

_WHY = {DeviceLostError: LOST, DeviceMemoryError: FULL}

Blocks = Callable[[Iterable[range]], Iterator[CellBlock]]
"""Gives the cells of spans of rows, a block a span."""

Progress = Callable[[int, int], None]
"""Called with the number of cells done and the number in all."""


class Answering(Protocol):
    """What the loop asks of an engine."""

    @property
    def timings(self) -> dict[str, float]:
        """Seconds by stage since the engine was opened."""

    def run(
        self, blocks: Iterable[CellBlock], columns: NDArray[np.int64], tick: Callable[[int], None]
    ) -> Iterator[Result]:
        """Results in the order of the blocks; `tick` is told of each number of cells that is answered."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The rows of a span, as the model has answered them.

    Attributes
    ----------
    part
        The rows.
    longest
        Tokens of their longest cell.
    """

    part: Part
    longest: int


@dataclass(frozen=True, slots=True)
class Tally:
    """What came of a run.

    Attributes
    ----------
    n_cells
        Cells that there are.
    bad
        Those without a result.
    longest
        Tokens of the longest cell.
    seconds
        By stage; the stages overlap in time.
    wall_seconds
        From the first read to the finished result.
    peak_bytes
        Most memory that the process has held.
    n_kept
        Cells that an earlier run had done.
    """

    n_cells: int
    bad: BadCells
    longest: int
    seconds: dict[str, float]
    wall_seconds: float
    peak_bytes: int
    n_kept: int = 0


def answered(
    blocks: Blocks,
    engine: Answering,
    columns: NDArray[np.int64],
    task: Task,
    spans: Iterable[range],
    tick: Callable[[int], None] = lambda cells: None,
) -> Generator[Answered]:
    """Take spans of cells through an engine.

    Parameters
    ----------
    blocks
        Gives the cells; that of a `CellSource`.
    engine
        Open.
    columns
        (n_genes,) token id of each column of the source, -1 for an unknown one.
    task
        What becomes of a span's result.
    spans
        Rows, in the order in which they are answered; taken one by one, ahead of the work.
    tick
        Told of each number of cells that is answered.

    Yields
    ------
    Answered
        One for each span, in their order.
    """
    asked: deque[range] = deque()
    with _closing(engine.run(blocks(_noted(spans, asked)), columns, tick)) as results:
        for result in results:
            honour()
            part, due = task(result), asked.popleft()
            if (part.first_row, part.n_cells) != (due.start, len(due)):
                raise InternalError(f"Rows from {part.first_row} came where {due.start} to {due.stop - 1} were due.")
            yield Answered(part, int(result.lengths.max(initial=0)))
    if asked:
        raise InternalError(f"Rows {asked[0].start} to {asked[0].stop - 1} have not come back.")


def run(
    source: CellSource,
    engine: Answering,
    columns: NDArray[np.int64],
    task: Task,
    sink: Sink,
    record: Callable[[int, int], Record],
    *,
    limit: int | None = None,
    progress: Progress | None = None,
    output: str = "The result",
    blocks: Blocks | None = None,
) -> Tally:
    """Take all cells of a source through an engine into a sink, which nothing but this run fills.

    Parameters
    ----------
    source, engine, columns, task
        See `answered`.
    sink
        Open.
    record
        Makes the facts that go with the result from the numbers of cells and of bad cells.
    limit
        Stop after so many cells.
    progress
        Told at the start, with none done, and after each batch.
    output
        What holds the rows if the device fails, for the message.
    blocks
        Gives the cells to the engine; None: the source does.

    Raises
    ------
    CellsError
        When no cell has a result; the sink is not committed then.
    DeviceError
        A GPU stopped working, or its memory ran out for a single cell. Where rows were done before, the sink is
        committed with them; the others are NaN, and the facts say so under ``incomplete``.
    """
    started = time.perf_counter()
    before = dict(engine.timings)
    total = source.n_cells if limit is None else min(limit, source.n_cells)
    rows, heard = _Rows(source, task, sink), Told(progress, total)
    heard.add(0)
    try:
        for one in answered(blocks or source.blocks, engine, columns, task, grid(total), heard.add):
            rows.take(one)
    except DeviceError as error:
        if rows.done == rows.bad.count:
            raise
        told = rows.give_up(total, _WHY.get(type(error), "the device failed"), record)
        raise type(error)(f"{error} {output} holds what was done: {told}.") from error
    refuse_nothing(rows.done, rows.bad)
    rows.commit(record)
    seconds = {**spent_since(before, engine.timings), "write": rows.write_seconds}
    return Tally(rows.done, rows.bad, rows.longest, seconds, time.perf_counter() - started, peak_bytes())


def spent_since(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """Seconds by stage between two looks at an engine's timings."""
    return {stage: spent - before.get(stage, 0.0) for stage, spent in now.items()}


@dataclass(slots=True)
class _Rows:
    """What has gone into the sink so far."""

    source: CellSource
    task: Task
    sink: Sink
    done: int = 0
    bad: BadCells = field(default_factory=BadCells)
    longest: int = 0
    width: int = 0
    write_seconds: float = 0.0

    def take(self, one: Answered) -> None:
        """The next rows, which the model has answered."""
        self._write(one.part)
        self.longest = max(self.longest, one.longest)

    def give_up(self, total: int, why: str, record: Callable[[int, int], Record]) -> str:
        """Finish the output without a result for all rows that are left; says which rows have one."""
        told = f"rows 0 to {self.done - 1:,} of {total:,}; the other {total - self.done:,} are NaN"
        while self.done < total:
            n_cells = min(RANGE_ROWS, total - self.done)
            vectors = np.full((n_cells, self.width), np.nan, np.float32)
            self._write(Part(self.done, vectors, (why,) * n_cells, no_values(self.task.columns, n_cells)))
        self.commit(lambda n_cells, n_bad: {**record(n_cells, n_bad), "incomplete": f"{why}: {told}"})
        return told

    def commit(self, record: Callable[[int, int], Record]) -> None:
        """Finish the output."""
        started = time.perf_counter()
        facts = record(self.done, self.bad.count)
        honour()
        with deferred():  # an output may be several files, and all or none of them shall appear
            self.sink.commit(facts)
        self.write_seconds += time.perf_counter() - started

    def _write(self, part: Part) -> None:
        started = time.perf_counter()
        self.sink.write(part)
        self.write_seconds += time.perf_counter() - started
        if any(part.reasons):
            self.bad.add(part.first_row, part.reasons, self.source.cell_names(part.first_row, part.stop))
        self.done, self.width = self.done + part.n_cells, part.vectors.shape[1]


@dataclass(slots=True)
class Told:
    """How many cells the caller has been told are done."""

    progress: Progress | None
    total: int
    done: int = 0

    def add(self, cells: int) -> None:
        """So many more are done."""
        self.done += cells
        if self.progress is not None:
            self.progress(self.done, self.total)


def _noted(spans: Iterable[range], asked: deque[range]) -> Iterator[range]:
    for span in spans:
        asked.append(span)
        yield span


@contextmanager
def _closing(results: Iterator[Result]) -> Iterator[Iterator[Result]]:
    """End the engine's threads now, whatever ended the loop: an error's traceback would keep them alive."""
    try:
        yield results
    finally:
        close = getattr(results, "close", None)
        if close is not None:
            close()


def refuse_nothing(n_cells: int, bad: BadCells) -> None:
    """Raise `CellsError` when no cell has a result."""
    if bad.count < n_cells:
        return
    found = "; ".join(f"{count:,} x {reason}" for reason, count in bad.by_reason().items())
    raise CellsError(
        f"None of the {n_cells:,} cells has an embedding ({found}), so nothing was written. Check that the counts are "
        "where they were taken from (--layer, layer=...), and that the gene names are the right ones (--gene-col, "
        "gene_col=...)."
    )


def peak_bytes() -> int:
    """Most memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes on Linux
