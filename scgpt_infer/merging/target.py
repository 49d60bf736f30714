"""Where a merge writes, and what: `destination`, and `open_target` with what the output keeps of the cells.

In: joined parts, options. Out: a path that can be written, and a `Target`. It writes nothing.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

from scgpt_infer.ledger.joining import Joined
from scgpt_infer.ledger.origin import Origin
from scgpt_infer.ledger.plan import Plan
from scgpt_infer.merging.options import MergeOptions
from scgpt_infer.options import EmbedOptions
from scgpt_infer.output import check_key, check_path, kept_tables, target_of
from scgpt_infer.readers import CellSource, open_cells
from scgpt_infer.readers.source import CellPaths
from scgpt_infer.writers import Target, writer_of
from scgpt_infer.writers.copied import state_of
from scgpt_infer.writers.sink import Dtype, Kind
from scgpt_runtime.errors import CellsError, OutputError

__all__ = ["destination", "open_target"]

_KEEPING = (".census", ".h5ad", ".zarr")
"""Suffixes of outputs that keep something of the cells beside their names."""

_REMEDY = "Name them with --cells (cells=...), or write .npy, .parquet or .csv."


@contextmanager
def open_target(joined: Joined, path: Path, how: MergeOptions) -> Iterator[Target]:
    """What the output shall hold; the cells are open inside where their format has no tables to be copied."""
    plan, plain = joined.plan, _plain(joined, path, how)
    if path.suffix.lower() not in _KEEPING:
        yield plain
        return
    cells = _named(plan, how, path)
    kept = kept_tables(Path(cells)) if isinstance(cells, (str, Path)) else None
    state = state_of(kept)
    _check_same(plan, cells)
    if kept is not None and path.suffix.lower() != ".census":
        if path.suffix.lower() == ".h5ad":
            check_key(kept, plan.key)
        yield replace(plain, source=kept, state=state)
        return
    with _opened(cells, plan) as source:
        if source.n_cells < plan.n_cells:
            raise CellsError(
                f"{cells} has {source.n_cells:,} cells, and the parts are of {plan.n_cells:,}. Name the cells that "
                "were embedded with --cells (cells=...)."
            )
        read = target_of(path, source, plan.n_cells, plan.dim, plan.key, EmbedOptions())
        yield replace(plain, genes=read.genes, obs=read.obs, joinids=read.joinids)


def _plain(joined: Joined, path: Path, how: MergeOptions) -> Target:
    """What the output shall hold, but for what it keeps of the cells."""
    return Target(
        path=path,
        n_cells=joined.plan.n_cells,
        dim=joined.plan.dim,
        key=joined.plan.key,
        names=joined.names,
        obs_only=how.obs_only,
        columns=joined.plan.columns,
        kind=cast(Kind, joined.plan.kind),
        with_vectors=joined.plan.with_vectors,
        prefix=joined.plan.prefix,
        features=joined.plan.features,
        matrices=joined.plan.matrices,
        tables=joined.plan.tables,
        dtype=cast(Dtype, joined.plan.dtype),
    )


def _opened(cells: CellPaths, plan: Plan) -> CellSource:
    """The cells, read as they were."""
    return open_cells(
        cells,
        modality=str(plan.facts.get("modality", "")) or None,
        cells_in=plan.asked.get("cells_in"),
        where=plan.asked.get("where"),
        organism=plan.asked.get("organism"),
    )


def destination(plan: Plan, output: Path | str, how: MergeOptions) -> Path:
    """The output, links followed; it is none of the cells, and can be written."""
    path = Path(os.path.realpath(output))
    writer_of(path)
    cells = [how.cells] if how.cells is not None else plan.origin.paths if plan.origin is not None else ()
    if path.exists() and any(Path(one).exists() and path.samefile(one) for one in cells):
        raise OutputError(f"{output} holds the cells that were embedded. Name another output.")
    check_path(path)
    return path


def _named(plan: Plan, how: MergeOptions, output: Path) -> CellPaths:
    """The cells, which an output keeps something of."""
    paths: Sequence[Path | str] = plan.origin.paths if how.cells is None and plan.origin is not None else ()
    paths = paths if how.cells is None else [how.cells]
    if not paths:
        raise CellsError(f"The cells lay in no file, and {output.name} keeps what is told of each. {_REMEDY}")
    gone = [str(path) for path in paths if not Path(path).exists()]
    if gone and (plan.origin is None or plan.origin.size):  # else they are elsewhere, such as in a bucket
        raise CellsError(f"{gone[0]} is not there, and {output.name} keeps what is told of each cell. {_REMEDY}")
    return paths[0] if len(paths) == 1 else list(paths)


def _check_same(plan: Plan, cells: CellPaths) -> None:
    """Make sure that the cells are those of the parts."""
    paths = [cells] if isinstance(cells, (str, Path)) else cells
    if plan.origin is not None:
        now, then = Origin.of(paths), plan.origin
        if (now.size, now.sample) != (then.size, then.sample):
            raise CellsError(
                f"{paths[0]} is not what was embedded: {now.size:,} bytes instead of {then.size:,}, or other ones. "
                f"{_REMEDY}"
            )
