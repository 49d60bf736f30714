"""The one loop: source -> engine -> task -> sink. Blocks of cells go in; a finished result and a `Tally` come out.

It knows no format, no task and no model. Whatever ends it, the context managers around it clean up; a device that
fails on the way ends it with a result of the rows that were done.
"""

import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.interrupts import deferred, honour
from scgpt_infer.readers import CellSource
from scgpt_infer.spans import grid
from scgpt_infer.summary import BadCell
from scgpt_infer.tasks import Task
from scgpt_infer.writers.sink import Part, Record, Sink, no_values
from scgpt_runtime.cells import CellBlock, Result
from scgpt_runtime.engine import RANGE_ROWS
from scgpt_runtime.errors import CellsError, DeviceError, DeviceLostError, DeviceMemoryError, InternalError

__all__ = ["FULL", "LOST", "Answering", "Progress", "Tally", "peak_bytes", "run"]

LOST = "the device was lost"
"""Why rows have no result that were not done when a GPU stopped working."""

FULL = "the device's memory ran out"
"""Why rows have no result that were not done when one cell alone did not fit any more."""

_WHY = {DeviceLostError: LOST, DeviceMemoryError: FULL}

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
class Tally:
    """What came of a run.

    Attributes
    ----------
    n_cells
        Cells that were read.
    bad
        Those without a result, in row order.
    longest
        Tokens of the longest cell.
    seconds
        By stage; the stages overlap in time.
    wall_seconds
        From the first read to the finished result.
    peak_bytes
        Most memory that the process has held.
    """

    n_cells: int
    bad: tuple[BadCell, ...]
    longest: int
    seconds: dict[str, float]
    wall_seconds: float
    peak_bytes: int


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
) -> Tally:
    """Take all cells of a source through an engine into a sink.

    Parameters
    ----------
    source, engine, sink
        All open.
    columns
        (n_genes,) token id of each column of the source, -1 for an unknown one.
    task
        What becomes of a block's result.
    record
        Makes the facts that go with the result from the numbers of cells and of bad cells.
    limit
        Stop after so many cells.
    progress
        Told at the start, with none done, and after each batch.
    output
        What holds the rows if the device fails, for the message.

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
    rows, heard = _Rows(source, task, sink), _Told(progress, total)
    heard.add(0)
    try:
        with _closing(engine.run(source.blocks(grid(total)), columns, heard.add)) as results:
            for result in results:
                honour()
                rows.take(result)
    except DeviceError as error:
        if rows.done == len(rows.bad):
            raise
        told = rows.give_up(total, _WHY.get(type(error), "the device failed"), record)
        raise type(error)(f"{error} {output} holds what was done: {told}.") from error
    if rows.done != total:
        raise InternalError(f"{rows.done:,} of {total:,} rows have come back.")
    _refuse_nothing(rows.done, rows.bad)
    rows.commit(record)
    seconds = {stage: spent - before.get(stage, 0.0) for stage, spent in engine.timings.items()}
    seconds["write"] = rows.write_seconds
    wall_seconds = time.perf_counter() - started
    return Tally(rows.done, tuple(rows.bad), rows.longest, seconds, wall_seconds, peak_bytes())


@dataclass(slots=True)
class _Rows:
    """What has gone into the sink so far."""

    source: CellSource
    task: Task
    sink: Sink
    done: int = 0
    bad: list[BadCell] = field(default_factory=list)
    longest: int = 0
    width: int = 0
    write_seconds: float = 0.0

    def take(self, result: Result) -> None:
        """The next rows, which the model has answered."""
        self._write(self.task(result))
        self.longest = max(self.longest, int(result.lengths.max(initial=0)))

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
        facts = record(self.done, len(self.bad))
        honour()
        with deferred():  # an output may be several files, and all or none of them shall appear
            self.sink.commit(facts)
        self.write_seconds += time.perf_counter() - started

    def _write(self, part: Part) -> None:
        if part.first_row != self.done:
            raise InternalError(f"Row {part.first_row} came where row {self.done} was due.")
        started = time.perf_counter()
        self.sink.write(part)
        self.write_seconds += time.perf_counter() - started
        self.bad += _bad_cells(part, self.source)
        self.done, self.width = self.done + part.n_cells, part.vectors.shape[1]


@dataclass(slots=True)
class _Told:
    """How many cells the caller has been told are done."""

    progress: Progress | None
    total: int
    done: int = 0

    def add(self, cells: int) -> None:
        self.done += cells
        if self.progress is not None:
            self.progress(self.done, self.total)


@contextmanager
def _closing(results: Iterator[Result]) -> Iterator[Iterator[Result]]:
    """End the engine's threads now, whatever ended the loop: an error's traceback would keep them alive."""
    try:
        yield results
    finally:
        close = getattr(results, "close", None)
        if close is not None:
            close()


def _bad_cells(part: Part, source: CellSource) -> list[BadCell]:
    rows = [i for i, reason in enumerate(part.reasons) if reason]
    if not rows:
        return []
    names = source.cell_names(part.first_row, part.first_row + part.n_cells)
    return [BadCell(part.first_row + i, names[i], part.reasons[i]) for i in rows]


def _refuse_nothing(n_cells: int, bad: list[BadCell]) -> None:
    if len(bad) < n_cells:
        return
    reasons: dict[str, int] = {}
    for cell in bad:
        reasons[cell.reason] = reasons.get(cell.reason, 0) + 1
    found = "; ".join(f"{count:,} x {reason}" for reason, count in sorted(reasons.items(), key=lambda item: -item[1]))
    raise CellsError(
        f"None of the {n_cells:,} cells has an embedding ({found}), so nothing was written. Check that the counts are "
        "where they were taken from (--layer, layer=...), and that the gene names are the right ones (--gene-col, "
        "gene_col=...)."
    )


def peak_bytes() -> int:
    """Most memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes on Linux
