"""One job: the answers for the cells of a source, through a task, into a file or into memory.

In: an open source, `Answers`, a task, options. Out: the finished result and a `Summary`. It opens no model.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from scgpt_infer.answers import Answers
from scgpt_infer.attaching import Attaching
from scgpt_infer.options import EmbedOptions
from scgpt_infer.output import check_disk, check_key, target_of
from scgpt_infer.readers import CellSource
from scgpt_infer.run import Progress, Tally, run
from scgpt_infer.summary import Summary
from scgpt_infer.tasks import Task
from scgpt_infer.writers import Sink, Target, writer_of
from scgpt_infer.writers.memory import MemorySink
from scgpt_infer.writers.sink import Part, Record, Table
from scgpt_runtime.errors import DeviceError, OptionError

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Job", "check_inplace"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """Cells, what answers for them, and what becomes of the answers.

    Attributes
    ----------
    source
        Open cells.
    answers
        What gives their vectors.
    task
        What becomes of them.
    options
        Of the run.
    prefix
        What the names of columns begin with in ``obs``.
    with_vectors
        Whether tables and JSON hold the vectors.
    features, matrices
        What each number of a vector is of, and the names of further matrices of such numbers; see `Target`.
    tables
        Further tables; see `Target`.
    rows
        Rows of the input that the source's cells are, where it gives but some of them.
    """

    source: CellSource
    answers: Answers
    task: Task
    options: EmbedOptions
    prefix: str = "scgpt_"
    with_vectors: bool = True
    features: tuple[str, ...] = ()
    matrices: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    rows: Sequence[int] | None = None

    @property
    def n_cells(self) -> int:
        """Cells that are taken."""
        limit = self.options.limit
        return self.source.n_cells if limit is None else min(limit, self.source.n_cells)

    @property
    def key(self) -> str:
        """Name of the embedding under ``obsm``."""
        return self.answers.facts.key

    def record(self, n_cells: int, n_bad: int) -> Record:
        """The facts that go with the result."""
        facts = {**self.answers.facts.record(n_cells, n_bad), **self.task.facts}
        return {**facts, "annotation_prefix": self.prefix} if self.task.columns else facts

    def checked_target(self, path: Path) -> Target:
        """What a file shall hold, when nothing but results of ours would be replaced."""
        target = target_of(path, self.source, self.n_cells, self.answers.dim, self.key, self.options)
        if target.source is not None and path.suffix.lower() == ".h5ad":
            check_key(target.source, self.key)
        return replace(
            target,
            columns=self.task.columns,
            kind=self.task.kind,
            with_vectors=self.with_vectors,
            prefix=self.prefix,
            features=self.features,
            matrices=self.matrices,
            tables=self.tables,
            rows=self.rows,
        )

    def into_file(self, path: Path, progress: Progress | None = None, also: MemorySink | None = None) -> Summary:
        """Do the job; the file appears when it is done.

        Parameters
        ----------
        path
            As `scgpt_infer.output.destination` gives it.
        progress
            Told the cells done and the cells in all.
        also
            Takes the same rows.
        """
        target = self.checked_target(path)
        check_disk(target)
        with writer_of(path).open(target) as sink:
            tally = self._run(sink if also is None else _Both((sink, also)), str(path), progress)
        return self.answers.facts.summary(tally, path)

    def into_memory(self, cells: "AnnData | Path | str", inplace: bool) -> tuple["AnnData", Summary]:
        """Do the job, and give the cells with their result: the caller's object, or a copy that shares nothing.

        Parameters
        ----------
        cells
            What the source was opened from.
        inplace
            Add to the object itself.
        """
        place = Attaching(
            cells, self.source, self.n_cells, self.key, self.task.columns, self.prefix, self.features, self.task.kind
        )
        place.check()
        sink = MemorySink.of(self.n_cells, self.answers.dim, self.task.columns, self.matrices, self.tables)
        output = f'obsm["{self.key}"]' if inplace else "The attribute `finished` of this error, an AnnData,"
        try:
            tally = self._run(sink, output)
        except DeviceError as error:
            if sink.record:  # rows were done before
                error.finished = place.attached(sink, inplace)
            raise
        if tally.bad:
            first = tally.bad[0]
            told = (len(tally.bad), tally.n_cells, first.name, first.reason)
            _log.warning("%d of %d cells have no embedding (NaN); the first is %s: %s", *told)
        return place.attached(sink, inplace), self.answers.facts.summary(tally, None)

    def gathered(self, progress: Progress | None = None) -> tuple[MemorySink, Summary]:
        """Do the job, and keep its rows in memory for what needs all of them.

        Raises
        ------
        DeviceError
            A GPU failed on the way: a part of the rows is of no use.
        """
        sink = MemorySink.of(self.n_cells, self.answers.dim, self.task.columns)
        try:
            tally = self._run(sink, "Nothing", progress)
        except DeviceError as error:
            raise type(error)(
                f"{error.__cause__ or error} Nothing was kept. Embed the cells into an .h5ad file (scgpt-infer embed), "
                "which keeps the rows that are done, and start from that."
            ) from error
        return sink, self.answers.facts.summary(tally, None)

    def _run(self, sink: Sink, output: str, progress: Progress | None = None) -> Tally:
        return run(
            self.source,
            self.answers.engine,
            self.answers.columns,
            self.task,
            sink,
            self.record,
            limit=self.options.limit,
            progress=progress,
            output=output,
        )


@dataclass(frozen=True, slots=True)
class _Both:
    """Several sinks that take the same rows; the first one commits first."""

    sinks: Sequence[Sink]

    def write(self, part: Part) -> None:
        for sink in self.sinks:
            sink.write(part)

    def commit(self, record: Record) -> None:
        for sink in self.sinks:
            sink.commit(record)


def check_inplace(cells: "AnnData | Path | str", inplace: bool, options: EmbedOptions) -> None:
    """Make sure that a result can be added to the object that was given.

    Raises
    ------
    OptionError
        When it is none, is a view, or shall lose cells.
    """
    if inplace and isinstance(cells, (str, Path)):
        raise OptionError("inplace changes an AnnData object, and cells are a path. Use embed_file with in_place.")
    if inplace and getattr(cells, "is_view", False):
        raise OptionError(
            "inplace adds to the object itself, and this one is a view of another. Pass a copy: x.copy()."
        )
    if inplace and options.limit is not None:
        raise OptionError("limit and inplace do not go together: the object keeps all of its cells.")
