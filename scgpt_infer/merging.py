"""Parts of one job, wherever they were made, become its output: `merge`.

In: folders of parts, as shards, workers and interrupted runs leave them. Out: the finished output with its row report,
and `Merged`. It opens no model, and cells only for what an output keeps of them.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from scgpt_infer.keeping import replay
from scgpt_infer.ledger.joining import Joined, join, missing_rows, rows_in_words
from scgpt_infer.ledger.origin import Origin
from scgpt_infer.ledger.parts import Kept
from scgpt_infer.ledger.plan import Plan
from scgpt_infer.options import EmbedOptions
from scgpt_infer.output import check_disk, check_key, check_path, kept_tables, target_of
from scgpt_infer.readers import CellSource, open_cells
from scgpt_infer.readers.source import CellPaths
from scgpt_infer.run import Progress
from scgpt_infer.summary import BadCell
from scgpt_infer.writers import Target, writer_of
from scgpt_infer.writers.sink import Dtype, Kind
from scgpt_runtime.errors import CellsError, OutputError

__all__ = ["MergeOptions", "Merged", "merge"]

_KEEPING = (".census", ".h5ad", ".zarr")
"""Suffixes of outputs that keep something of the cells beside their names."""


@dataclass(frozen=True, slots=True)
class MergeOptions:
    """What a merge takes.

    Attributes
    ----------
    allow_mixed
        Parts of several models, providers or precisions; the record of the output tells it as ``mixed``.
    allow_missing
        Rows that no part has: they become NaN, and the record tells it as ``incomplete``.
    cells
        Where the cells are now, for an output that keeps what is told of them. None: where they were.
    obs_only
        Leave ``X``, ``layers``, ``raw`` and pairwise matrices out of an ``.h5ad`` output.
    """

    allow_mixed: bool = False
    allow_missing: bool = False
    cells: Path | str | None = None
    obs_only: bool = False


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge made.

    Attributes
    ----------
    output, key, dim
        The file, the name of the embedding in it, and its width.
    folders
        That the parts came from; they stay.
    n_cells, n_embedded, n_bad, n_missing, n_twice
        Cells in all; with a result; without one; of these, those that no part has; those that two folders have, alike.
    reasons, bad
        Cells without a result by reason, and the first of them.
    mixed
        What made the parts, by name, where they differ.
    parts_sha256
        One digest of all parts: equal to that of an undisturbed run.
    wall_seconds
        Time that it took.
    """

    output: str
    key: str
    dim: int
    folders: tuple[str, ...]
    n_cells: int
    n_embedded: int
    n_bad: int
    n_missing: int
    n_twice: int
    reasons: dict[str, int]
    bad: tuple[BadCell, ...]
    mixed: dict[str, str]
    parts_sha256: str
    wall_seconds: float

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self), indent=2)


def merge(
    folders: Sequence[Path | str],
    output: Path | str,
    options: MergeOptions | None = None,
    progress: Progress | None = None,
) -> Merged:
    """Put parts together into the output that they are of.

    Every part is compared with its sha256, so that the output is bit for bit that of one undisturbed run with the same
    provider and precision. The folders stay as they are.

    Parameters
    ----------
    folders
        Of parts: ``OUTPUT.parts`` of each run or machine.
    output
        A file or folder with any suffix that `scgpt_infer.embed_file` can write.
    options
        What is taken.
    progress
        Told the cells that are written, and the cells in all.

    Raises
    ------
    OutputError
        Rows are missing, or there twice and not alike; folders are of other work; parts are damaged; or the output
        cannot be written.
    CellsError
        The cells are not where they were, or are others; or none has a result.
    """
    how, started = options or MergeOptions(), time.perf_counter()
    paths = [Path(folder) for folder in folders]
    joined = join(paths, allow_mixed=how.allow_mixed)
    lacking = missing_rows(joined, paths)
    if lacking and not how.allow_missing:
        raise OutputError(f"{lacking}, or take them as NaN with --allow-missing (allow_missing=True).")
    plan, n_missing = joined.plan, sum(map(len, joined.missing))
    n_bad = n_missing + sum(mark.n_bad for mark in joined.marks)
    if n_bad == plan.n_cells:
        raise CellsError(f"None of the {n_bad:,} cells has a result in these folders, so nothing was written.")
    path = _destination(plan, output, how)
    with _target(joined, path, how) as target:
        check_disk(target)
        bad = replay(_told(joined.parts(), plan.n_cells, progress), target, _facts(joined, n_bad))
    return Merged(
        output=str(path),
        key=plan.key,
        dim=plan.dim,
        folders=tuple(map(str, paths)),
        n_cells=plan.n_cells,
        n_embedded=plan.n_cells - bad.count,
        n_bad=bad.count,
        n_missing=n_missing,
        n_twice=joined.twice,
        reasons=bad.by_reason(),
        bad=tuple(bad.first),
        mixed=joined.mixed,
        parts_sha256=joined.digest,
        wall_seconds=time.perf_counter() - started,
    )


def _facts(joined: Joined, n_bad: int) -> dict[str, Any]:
    """The facts of the run, and what is to be told of how its parts came together."""
    facts = {**joined.plan.facts, "n_cells": joined.plan.n_cells, "n_without_embedding": n_bad}
    facts |= {"parts_sha256": joined.digest, **{name: told for name, told in joined.mixed.items() if name in facts}}
    if joined.mixed:
        facts["mixed"] = "; ".join(f"{name} {told}" for name, told in joined.mixed.items())
    if joined.missing:
        facts["incomplete"] = f"{rows_in_words(joined.missing)} of {joined.plan.n_cells:,} were not done"
    return facts


def _told(parts: Iterable[Kept], total: int, progress: Progress | None) -> Iterator[Kept]:
    for kept in parts:
        yield kept
        if progress is not None:
            progress(kept.part.stop, total)


@contextmanager
def _target(joined: Joined, path: Path, how: MergeOptions) -> Iterator[Target]:
    """What the output shall hold; the cells are open inside where their format has no tables to be copied."""
    plan = joined.plan
    plain = Target(
        path=path,
        n_cells=plan.n_cells,
        dim=plan.dim,
        key=plan.key,
        names=joined.names,
        obs_only=how.obs_only,
        columns=plan.columns,
        kind=cast(Kind, plan.kind),
        with_vectors=plan.with_vectors,
        prefix=plan.prefix,
        features=plan.features,
        matrices=plan.matrices,
        tables=plan.tables,
        dtype=cast(Dtype, plan.dtype),
    )
    if path.suffix.lower() not in _KEEPING:
        yield plain
        return
    cells = _there(plan, how, path)
    kept = kept_tables(Path(cells)) if isinstance(cells, (str, Path)) else None
    if kept is not None and path.suffix.lower() != ".census":
        if path.suffix.lower() == ".h5ad":
            check_key(kept, plan.key)
        yield replace(plain, source=kept)
        return
    with _opened(cells, plan) as source:
        if source.n_cells < plan.n_cells:
            raise CellsError(
                f"{cells} has {source.n_cells:,} cells, and the parts are of {plan.n_cells:,}. Name the cells that "
                "were embedded with --cells (cells=...)."
            )
        read = target_of(path, source, plan.n_cells, plan.dim, plan.key, EmbedOptions())
        yield replace(plain, genes=read.genes, obs=read.obs, joinids=read.joinids)


def _opened(cells: CellPaths, plan: Plan) -> CellSource:
    """The cells, read as they were."""
    return open_cells(
        cells,
        modality=str(plan.facts.get("modality", "")) or None,
        cells_in=plan.asked.get("cells_in"),
        where=plan.asked.get("where"),
        organism=plan.asked.get("organism"),
    )


def _destination(plan: Plan, output: Path | str, how: MergeOptions) -> Path:
    """The output, links followed; it is none of the cells, and can be written."""
    path = Path(os.path.realpath(output))
    writer_of(path)
    cells = [how.cells] if how.cells is not None else plan.origin.paths if plan.origin is not None else ()
    if path.exists() and any(Path(one).exists() and path.samefile(one) for one in cells):
        raise OutputError(f"{output} holds the cells that were embedded. Name another output.")
    check_path(path)
    return path


def _there(plan: Plan, how: MergeOptions, output: Path) -> CellPaths:
    """The cells, which an output keeps something of; that they are the same is looked at."""
    remedy = "Name them with --cells (cells=...), or write .npy, .parquet or .csv."
    paths: Sequence[Path | str] = plan.origin.paths if how.cells is None and plan.origin is not None else ()
    paths = paths if how.cells is None else [how.cells]
    if not paths:
        raise CellsError(f"The cells lay in no file, and {output.name} keeps what is told of each. {remedy}")
    gone = [str(path) for path in paths if not Path(path).exists()]
    if gone and (plan.origin is None or plan.origin.size):  # else they are elsewhere, such as in a bucket
        raise CellsError(f"{gone[0]} is not there, and {output.name} keeps what is told of each cell. {remedy}")
    if plan.origin is not None:
        now, then = Origin.of(paths), plan.origin
        if (now.size, now.sample) != (then.size, then.sample):
            raise CellsError(
                f"{paths[0]} is not what was embedded: {now.size:,} bytes instead of {then.size:,}, or other ones. "
                f"{remedy}"
            )
    return paths[0] if len(paths) == 1 else list(paths)
