"""A job done by its ledger: `fill` does what is missing, `finish` makes the output of all parts.

In: a job's cells, what answers for them, an open ledger. Out: kept parts; then one file and a `Tally`. It knows no
format and no model.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.interrupts import Stopped, asked_to_stop, deferred, finishing, honour
from scgpt_infer.ledger.folder import Ledger
from scgpt_infer.ledger.marks import Mark, digest
from scgpt_infer.ledger.parts import Kept, read_part
from scgpt_infer.ledger.same_cells import of_cells
from scgpt_infer.run import Answering, Blocks, Progress, Told, answered, refuse_nothing, spent_since
from scgpt_infer.summary import BadCells
from scgpt_infer.tasks import Task
from scgpt_infer.writers import Sink, Target, writer_of
from scgpt_infer.writers.row_report import RowReport
from scgpt_infer.writers.sink import Record

__all__ = [
    "Alone",
    "Budgeted",
    "Filled",
    "Filler",
    "bad_cells",
    "fill",
    "finish",
    "replay",
    "stop_if_asked",
]

Names = Callable[[int, int], list[str]]
"""Names of the cells of rows start to stop."""


@dataclass(frozen=True, slots=True)
class Filled:
    """What doing the missing ranges took.

    Attributes
    ----------
    seconds
        By stage; the stages overlap in time, and are the mean of workers where there are several.
    peak_bytes
        Most memory that workers have held together; 0 where this process has worked alone.
    """

    seconds: dict[str, float]
    peak_bytes: int = 0


@runtime_checkable
class Budgeted(Protocol):
    """An engine that has a budget of tokens for a batch, and halves it where memory runs out."""

    @property
    def batch_tokens(self) -> int:
        """The budget in force."""
        ...

    def keep_to(self, batch_tokens: int) -> None:
        """Take no larger batches from now on; 0: as they are."""
        ...


class Filler(Protocol):
    """Does what is missing in a ledger."""

    def __call__(self, ledger: Ledger, tick: Callable[[int], None]) -> Filled:
        """Do the missing ranges; `tick` is told of each number of cells that is answered.

        Raises
        ------
        Stopped
            A signal asked for an end, and what was in flight is kept.
        """
        ...


@dataclass(frozen=True, slots=True)
class Alone:
    """Does all of it in this process.

    Attributes
    ----------
    blocks, engine, columns, task
        See `scgpt_infer.run.answered`.
    names
        Of the cells.
    budget
        The engine, where it has a budget of tokens.
    """

    blocks: Blocks
    engine: Answering
    columns: NDArray[np.int64]
    task: Task
    names: Names
    budget: Budgeted | None = None

    @property
    def batch_tokens(self) -> int:
        """Most tokens of a batch; 0 where the engine has no budget."""
        return 0 if self.budget is None else self.budget.batch_tokens

    def __call__(self, ledger: Ledger, tick: Callable[[int], None]) -> Filled:
        """Do the missing ranges one after the other."""
        before, writing = dict(self.engine.timings), 0.0
        if self.budget is not None:
            self.budget.keep_to(min((mark.batch_tokens for mark in ledger.marks.values()), default=0))
        parts = answered(self.blocks, self.engine, self.columns, self.task, ledger.missing(), tick)
        with finishing(), closing(parts):
            for one in parts:
                started = time.perf_counter()
                names = tuple(self.names(one.part.first_row, one.part.stop))
                ledger.keep(Kept(one.part, names), one.longest, self.batch_tokens)
                writing += time.perf_counter() - started
                if not ledger.is_complete:
                    stop_if_asked()
        return Filled({**spent_since(before, self.engine.timings), "write": writing})


def stop_if_asked() -> None:
    """Raise `Stopped` where a signal has asked for an end that loses nothing."""
    number = asked_to_stop()
    if number:
        raise Stopped(number)


def fill(ledger: Ledger, filler: Filler, progress: Progress | None = None) -> Filled:
    """Do what is missing in a ledger. Whatever ends it early says what is kept.

    Parameters
    ----------
    ledger
        Open.
    filler
        Does it.
    progress
        Told the cells done and the cells in all, those that an earlier run had done counted.
    """
    heard = Told(progress, ledger.n_cells)
    heard.add(ledger.n_done)
    with telling(ledger):
        stop_if_asked()
        return filler(ledger, heard.add)


@contextmanager
def telling(ledger: Ledger) -> Iterator[None]:
    """Add what is kept to whatever ends the work inside."""
    try:
        yield
    except BaseException as error:
        if ledger.marks:
            error.add_note(ledger.told)
        raise


def finish(ledger: Ledger, target: Target, record: Callable[[int, int], Record], also: Sequence[Sink] = ()) -> BadCells:
    """Make the output of all parts, in the order of their rows.

    Parameters
    ----------
    ledger
        Open; nothing is missing.
    target
        What the file shall hold.
    record
        Makes the facts that go with the result from the numbers of cells and of bad cells.
    also
        Sinks that take the same rows.

    Raises
    ------
    CellsError
        No cell has a result.
    OutputError
        A part is not what was written, or the output cannot be.
    """
    marks = ledger.in_order()
    n_bad = sum(mark.n_bad for mark in marks)
    if n_bad == ledger.n_cells:
        bad = bad_cells(ledger, marks)
        ledger.remove()
        refuse_nothing(ledger.n_cells, bad)
    names = lru_cache(1)(target.names)  # a writer asks for the same ones next
    target, parts = replace(target, names=names), of_cells(ledger.parts(), names)
    facts = {**record(ledger.n_cells, n_bad), "parts_sha256": digest(marks)}
    with telling(ledger):
        if ledger.is_in_output:
            return _into(parts, target.path, facts, also)
        return replay(parts, target, facts, also)


def replay(parts: Iterable[Kept], target: Target, facts: Record, also: Sequence[Sink] = ()) -> BadCells:
    """Write parts, which come in the order of their rows, into an output with its row report.

    Parameters
    ----------
    parts
        All rows of the output.
    target
        What the file shall hold.
    facts
        That go with the result.
    also
        Sinks that take the same rows.

    Raises
    ------
    OutputError
        The output cannot be written.
    """
    with writer_of(target.path).open(target) as sink:
        return _into(parts, target.path, facts, (sink, *also))


def _into(parts: Iterable[Kept], output: Path, facts: Record, sinks: Sequence[Sink]) -> BadCells:
    """Write parts into sinks and the row report of their output."""
    bad = BadCells()
    with finishing(), RowReport.beside(output) as report:
        for kept in parts:
            honour()
            stop_if_asked()
            for each in sinks:
                each.write(kept.part)
            bad.add(kept.part.first_row, kept.part.reasons, kept.names)
            report.add(kept.part.first_row, kept.part.reasons, kept.names)
        report.settle()
        honour()
        with deferred():  # an output may be several files, and all or none of them shall appear
            for each in sinks:
                each.commit(facts)
            report.commit()
    return bad


def bad_cells(ledger: Ledger, marks: Sequence[Mark]) -> BadCells:
    """The cells without a result, of parts that have any."""
    found = BadCells()
    for mark in marks:
        if mark.n_bad:
            kept = read_part(ledger.folder, mark)
            found.add(mark.first_row, kept.part.reasons, kept.names)
    return found
