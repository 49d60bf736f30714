"""The job behind ``scgpt-infer index``: labelled cells are embedded and become a reference index on disk.

In: cells, a model, the column with the labels. Out: the index and an `IndexSummary`.
"""

import json
import logging
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.job import Job
from scgpt_infer.model import Model, Say, cells_of
from scgpt_infer.options import EmbedOptions, Precision
from scgpt_infer.readers import CellSource
from scgpt_infer.reference import IndexManifest, Kind, LabelledVectors, Origin, Recall, build, kind_for
from scgpt_infer.run import Progress
from scgpt_infer.sizes import size
from scgpt_infer.summary import Summary
from scgpt_infer.wanted import Wanted, wanted
from scgpt_infer.writers.folder import check_output
from scgpt_infer.writers.sink import output_errors
from scgpt_runtime.errors import CellsError, DeviceError

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["IndexSummary", "index_file"]

SHOWN = 20
"""Labels that the report lists with their number of cells."""

_log = logging.getLogger(__name__)
_DEFAULTS = EmbedOptions()
_SETTINGS = ("max_length", "seed", "ties", "sample", "genes")


@dataclass(frozen=True, slots=True)
class IndexSummary:
    """What was indexed, and what was not.

    Attributes
    ----------
    embedded
        Of the run that embedded the cells.
    output, size
        The folder and its bytes.
    label_column, counts
        Where labels came from, and the cells of the index by label, the most frequent first.
    n_indexed, n_without_vector
        Cells in the index, and those that are not because they have a label and no vector.
    left_out
        Cells that were not wanted, by the reason.
    kind, options
        Kind of the index, and how faiss built it and searches it; none for an exact one.
    recall
        How many of the nearest cells an approximate search finds; None for an exact one.
    sha256
        Digest of the index, which covers every file of it.
    build_seconds
        From the vectors to the finished index.
    """

    embedded: Summary
    output: str
    size: int
    label_column: str
    counts: dict[str, int]
    n_indexed: int
    left_out: dict[str, int]
    n_without_vector: int
    kind: str
    options: dict[str, str | int]
    recall: Recall | None
    sha256: str
    build_seconds: float

    def report(self) -> str:
        """What was done, for people."""
        options = ", ".join(f"{name} {value}" for name, value in self.options.items())
        lines = [
            f"{self.n_indexed:,} cells of {len(self.counts):,} labels indexed in {self.output} ({size(self.size)})",
            f"  labels     {self.label_column}; left out: {self._left}",
            f"  model      {self.embedded.model}, {self.embedded.precision}, vector id {self.embedded.vector_id}",
            f"  search     {self.kind}{f' ({options})' if options else ''}",
        ]
        if self.recall is not None:
            lines.append(
                f"  recall     {self.recall.share:.2%} of the {self.recall.k} nearest cells are found, and "
                f"{self.recall.lost:.2%} of the queries find less than half ({self.recall.queries:,} reference cells, "
                "against exact search)"
            )
        width = max(map(len, list(self.counts)[:SHOWN]))
        lines += [f"    {label:<{width}}  {count:>9,}" for label, count in list(self.counts.items())[:SHOWN]]
        if len(self.counts) > SHOWN:
            lines.append(f"    and {len(self.counts) - SHOWN:,} more labels; --json lists them")
        return "\n".join(lines)

    @property
    def _left(self) -> str:
        left = [f"{count:,} cells: {reason}" for reason, count in self.left_out.items()]
        if self.n_without_vector:
            left.append(f"{self.n_without_vector:,} cells: no embedding")
        return "; ".join(left) or "none"

    def to_json(self) -> str:
        """One JSON object."""
        told: dict[str, Any] = asdict(self) | {"embedded": json.loads(self.embedded.to_json())}
        return json.dumps(told, allow_nan=False, ensure_ascii=False, indent=2)


def index_file(
    cells: "AnnData | Path | str",
    output: Path | str,
    model: str | Path,
    label: str,
    options: EmbedOptions = _DEFAULTS,
    *,
    kind: Kind = "auto",
    ignore: tuple[str, ...] = (),
    exclude: tuple[tuple[str, str], ...] = (),
    progress: Progress | None = None,
    cache_dir: Path | None = None,
    say: Say | None = None,
) -> IndexSummary:
    """Index labelled cells. Vectors of the same model that lie with the cells already are taken as they are.

    Parameters
    ----------
    cells
        A file of cells, or an AnnData object.
    output
        Folder to make; must not exist.
    model
        See `scgpt_infer.embed`.
    label
        Column of ``obs`` with the labels. Cells without one are left out.
    options
        How cells are read and embedded.
    kind
        ``exact``: every reference cell is looked at for each query; ``hnsw``, ``ivfpq``: faiss names candidates, which
        are ranked by exact distance; ``auto``: by the number of cells.
    ignore
        Labels whose cells are left out.
    exclude
        Columns of ``obs``, each with a value whose cells are left out.
    progress
        Told the cells embedded and the cells in all.
    cache_dir, say
        See `Model.open`.

    Raises
    ------
    CellsError
        There is no such column, or no cell has both a label and an embedding.
    OptionError
        A label or value that shall be left out is not there.
    OutputError
        The folder exists, or cannot be written.
    MissingDependencyError
        This kind needs faiss, which is not installed.
    """
    output = Path(output)
    check_output(output)
    with cells_of(cells, options) as source:
        chosen = wanted(source, label, ignore=ignore, exclude=exclude, limit=options.limit)
        labels = _labels(chosen, label, source)
        kind_for(kind, int((labels != "").sum()))  # a package that is missing shows before the work
        with (
            Model.open(model, options, cache_dir=cache_dir, say=say, when_needed=True) as opened,
            output_errors(output),
            tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as stage,
        ):
            embedded = _embedded(opened.job(source, reuse=True), Path(stage) / "vectors.npy", progress)
            started = time.perf_counter()
            vectors = np.load(Path(stage) / "vectors.npy", mmap_mode="r", allow_pickle=False)
            names = source.cell_names(0, len(labels))
            found = LabelledVectors(vectors, labels, names, label, _origin(embedded))
            manifest = build(output, found, kind, say or _log.info)
    return _summary(output, embedded, manifest, chosen.out, time.perf_counter() - started)


def _labels(chosen: Wanted, column: str, source: CellSource) -> NDArray[np.str_]:
    """The labels of cells that are wanted; those of the others are empty."""
    if not chosen.kept.any():
        left = "; ".join(f"{count:,} cells: {reason}" for reason, count in chosen.out.items())
        raise CellsError(
            f"No cell of {source.path or 'the cells'} has a label in column {column!r} that is wanted ({left}). Name "
            "another column, or leave fewer cells out."
        )
    return np.where(chosen.kept, chosen.labels, "")


def _embedded(job: Job, path: Path, progress: Progress | None) -> Summary:
    try:
        return job.into_file(path, progress)
    except DeviceError as error:
        raise type(error)(
            f"{error.__cause__ or error} Nothing was indexed. Embed the cells into an .h5ad file (scgpt-infer embed), "
            "which keeps the rows that are done, and index that."
        ) from error


def _origin(embedded: Summary) -> Origin:
    settings: dict[str, str | int | float] = {name: getattr(embedded, name) for name in _SETTINGS}
    return Origin(embedded.model, embedded.vector_id, cast(Precision, embedded.precision), settings)


def _summary(
    output: Path, embedded: Summary, manifest: IndexManifest, left_out: dict[str, int], seconds: float
) -> IndexSummary:
    by_count = sorted(zip(manifest.labels, manifest.counts, strict=True), key=lambda pair: -pair[1])
    return IndexSummary(
        embedded=embedded,
        output=str(output),
        size=manifest.size,
        label_column=manifest.label_column,
        counts=dict(by_count),
        n_indexed=manifest.n_cells,
        left_out=left_out,
        n_without_vector=manifest.left_out.without_vector,
        kind=manifest.kind,
        options={} if manifest.faiss is None else asdict(manifest.faiss),
        recall=manifest.recall,
        sha256=manifest.digest,
        build_seconds=seconds,
    )
