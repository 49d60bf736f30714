"""One job: the answers for the cells of a source, through a task, into a file or into memory.

In: an open source, `Answers`, a task, options. Out: the finished result and a `Summary`. A file is made by way of a
ledger, so that nothing that was done is lost. It opens no model.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scgpt_infer.answers import Answers
from scgpt_infer.attaching import Attaching
from scgpt_infer.interrupts import finishing
from scgpt_infer.keeping import Alone, Budgeted, Filler, bad_cells, fill, finish
from scgpt_infer.ledger.alone import is_merging
from scgpt_infer.ledger.folder import Ledger, parts_folder
from scgpt_infer.ledger.origin import Origin
from scgpt_infer.ledger.plan import Plan
from scgpt_infer.options import EmbedOptions
from scgpt_infer.output import check_disk, check_key, target_of
from scgpt_infer.readers import CellSource
from scgpt_infer.readers.source import CellPaths, NumberedCells, SetOfFiles, are_paths
from scgpt_infer.run import Progress, Tally, peak_bytes, run
from scgpt_infer.some_rows import SomeRows
from scgpt_infer.summary import Summary
from scgpt_infer.tasks import Task
from scgpt_infer.tasks.unread import TellingUnread
from scgpt_infer.work import WorkOptions
from scgpt_infer.writers import Target, writer_of
from scgpt_infer.writers.h5ad import holds_parts
from scgpt_infer.writers.json import TextSink
from scgpt_infer.writers.leftovers import sweep
from scgpt_infer.writers.memory import MemorySink
from scgpt_infer.writers.sink import Record, Sink, Table
from scgpt_runtime.batching import BATCH_TOKENS
from scgpt_runtime.errors import DeviceError, OptionError
from scgpt_runtime.ranges import RANGE_ROWS

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Job", "check_inplace", "check_share", "parts_bytes"]

_log = logging.getLogger(__name__)
_ALL = WorkOptions()
_NAME_BYTES = 64
_NO_FILE = Path("document.json")

_KNOWN = frozenset(
    {
        *("layer", "modality", "gene_col", "genes", "min_match", "key", "max_length", "seed", "ties", "sample"),
        *("provider", "precision", "device", "threads", "instances", "limit", "dtype", "obs_only", "in_place"),
    }
)
"""Options that the facts of a run or the plan tell the outcome of, or that change no row."""


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
    asked
        What was asked of the task and can change a row, beside what its facts tell.
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
    asked: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_cells(self) -> int:
        """Cells that are taken."""
        limit = self.options.limit
        return self.source.n_cells if limit is None else min(limit, self.source.n_cells)

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Files and folders that the cells are read from; none for an object."""
        source = self.source.source if isinstance(self.source, SomeRows) else self.source
        if isinstance(source, SetOfFiles):
            return source.paths
        return () if source.path is None else (source.path,)

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
        target = replace(
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
        writer_of(path).check(target)
        return target

    def plan(self, target: Target) -> Plan:
        """What the work is that the target is made of."""
        options, facts = self.options, dict(self.record(0, 0))
        where = self.inputs or _address(self.source)
        asked = {
            **{name: value for name, value in asdict(options).items() if name not in _KNOWN},
            "batch_tokens": options.batch_tokens or BATCH_TOKENS.get(str(facts["provider"])),  # at the beginning
            "rows": None if self.rows is None else _digest(self.rows),
            **self.asked,
        }
        return Plan(
            origin=Origin.of(where) if where else None,
            n_cells=self.n_cells,
            range_rows=RANGE_ROWS,
            dim=target.dim,
            dtype=target.dtype,
            key=target.key,
            prefix=target.prefix,
            kind=target.kind,
            facts=facts,
            asked=json.loads(json.dumps(asked, default=str)),
            columns=target.columns,
            with_vectors=target.with_vectors,
            features=target.features,
            matrices=target.matrices,
            tables=target.tables,
        )

    def into_file(
        self,
        path: Path,
        progress: Progress | None = None,
        also: MemorySink | None = None,
        work: WorkOptions = _ALL,
        filler: Filler | None = None,
        say: Callable[[str], None] | None = None,
    ) -> Summary:
        """Do the job; the file appears when it is done. What an earlier run of it has kept is not done again.

        Parameters
        ----------
        path
            As `scgpt_infer.output.destination` gives it.
        progress
            Told the cells done and the cells in all.
        also
            Takes the same rows.
        work
            How it is done; of a shard the parts are kept, and no file appears.
        filler
            Does it; None: this process.
        say
            Told of what takes time before the work begins, such as whether another process is at it; None: the log.
        """
        if filler is None and (work.workers or work.ray) and self.answers.blocks is None:
            raise OptionError("workers and ray share the work of embed and annotate alone; leave them out here.")
        check_share(work, self.options)
        target = self.checked_target(path)
        started = time.perf_counter()
        folder, plan = parts_folder(path), self.plan(target)
        with (
            finishing(),
            Ledger.open(
                folder, plan, shard=work.shard, resume=work.resume, say=say or _log.warning, held=_held(target)
            ) as ledger,
        ):
            if work.shard is None and not is_merging(path):
                sweep(path)
            if not ledger.is_in_output:
                check_disk(target, parts_bytes(plan, sum(map(len, ledger.missing()))))
            filled = fill(ledger, filler or self.alone(), progress)
            marks, writing = list(ledger.marks.values()), time.perf_counter()
            if work.shard is None:
                bad = finish(ledger, target, self.record, () if also is None else (also,))
                ledger.remove()
            else:
                bad = bad_cells(ledger, marks)
            written = filled.seconds.get("write", 0.0) + time.perf_counter() - writing
        tally = Tally(
            ledger.n_cells,
            bad,
            max((mark.longest for mark in marks), default=0),
            {**filled.seconds, "write": written},
            time.perf_counter() - started,
            max(peak_bytes(), filled.peak_bytes),
            ledger.n_kept,
        )
        if work.shard is None:
            return self.answers.facts.summary(tally, path)
        return replace(self.answers.facts.summary(tally, folder), shard=str(work.shard))

    def alone(self) -> Alone:
        """What fills a ledger in this process."""
        answers = self.answers
        return Alone(
            answers.blocks or self.source.blocks,
            answers.engine,
            answers.columns,
            _telling(self.task, self.source),
            self.source.cell_names,
            answers.engine if isinstance(answers.engine, Budgeted) else None,
        )

    def into_memory(self, cells: "AnnData | CellPaths", inplace: bool) -> tuple["AnnData", Summary]:
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
        if tally.bad.count:
            first = tally.bad.first[0]
            told = (tally.bad.count, tally.n_cells, first.name, first.reason)
            _log.warning("%d of %d cells have no embedding (NaN); the first is %s: %s", *told)
        return place.attached(sink, inplace), self.answers.facts.summary(tally, None)

    def document(self) -> str:
        """Do the job, and give the result as the text that a ``.json`` file of it would have.

        Raises
        ------
        DeviceError
            A GPU failed on the way.
        """
        sink = TextSink(self.checked_target(_NO_FILE))
        self._run(sink, "Nothing")
        return sink.text

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
            _telling(self.task, self.source),
            sink,
            self.record,
            limit=self.options.limit,
            progress=progress,
            output=output,
            blocks=self.answers.blocks,
        )


def _held(target: Target) -> Callable[[str], bool]:
    """Whether the cells' own file says that it holds the parts of a digest; of another output it need not be known."""
    return partial(holds_parts, target.path) if target.source == target.path else lambda sha256: False


def parts_bytes(plan: Plan, n_cells: int) -> int:
    """Room that the parts of so many cells take."""
    others = plan.dim * len(plan.matrices) + sum(table.width for table in plan.tables) + len(plan.columns)
    row = plan.dim * np.dtype(plan.dtype).itemsize + 4 * others + _NAME_BYTES
    return n_cells * row


def _digest(words: Sequence[object]) -> str:
    return hashlib.sha256("\n".join(map(str, words)).encode("utf-8", "surrogateescape")).hexdigest()


def _telling(task: Task, source: CellSource) -> Task:
    """The task; over several files it tells which rows could not be read."""
    return TellingUnread(task, source.unread) if isinstance(source, SetOfFiles) else task


def _address(source: CellSource) -> tuple[str, ...]:
    """Where cells lie that are in no file of this machine, as a user would name it."""
    origin = source.origin if isinstance(source, NumberedCells) else {}
    if "uri" in origin:
        return (origin["uri"],)
    return (f"census:{origin['census_version']}",) if "census_version" in origin else ()


def check_share(work: WorkOptions, options: EmbedOptions) -> None:
    """Make sure that the share of a job can be made one with the others.

    Raises
    ------
    OptionError
        It would be a share of what is added to the cells themselves.
    """
    if work.shard is not None and options.in_place:
        raise OptionError(
            "shard and in_place do not go together: shards are merged into a file of their own, never into the cells. "
            "Name an output (-o)."
        )


def check_inplace(cells: "AnnData | CellPaths", inplace: bool, options: EmbedOptions) -> None:
    """Make sure that a result can be added to the object that was given.

    Raises
    ------
    OptionError
        When it is none, is a view, or shall lose cells.
    """
    if inplace and are_paths(cells):
        raise OptionError("inplace changes an AnnData object, and cells are a path. Use embed_file with in_place.")
    if inplace and getattr(cells, "is_view", False):
        raise OptionError(
            "inplace adds to the object itself, and this one is a view of another. Pass a copy: x.copy()."
        )
    if inplace and options.limit is not None:
        raise OptionError("limit and inplace do not go together: the object keeps all of its cells.")
