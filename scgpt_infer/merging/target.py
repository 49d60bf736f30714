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
from scgpt_infer.readers.members import members
from scgpt_infer.readers.places import place_of
from scgpt_infer.readers.source import CellPaths
from scgpt_infer.writers import Target, writer_of
from scgpt_infer.writers.copied import state_of
from scgpt_infer.writers.sink import Dtype, Kind
from scgpt_runtime.errors import CellsError, OutputError

__all__ = ["destination", "keeps_cells", "open_target"]

_KEEPING = (".census", ".h5ad", ".zarr")
"""Suffixes of outputs that keep something of the cells beside their names."""

_REMEDY = "Name them with --cells (cells=...), or write .npy, .parquet or .csv."


def keeps_cells(path: Path) -> bool:
    """Whether an output keeps something of the cells, which are needed for it."""
    return path.suffix.lower() in _KEEPING


@contextmanager
def open_target(joined: Joined, path: Path, how: MergeOptions) -> Iterator[Target]:
    """What the output shall hold; the cells are open inside where their format has no tables to be copied."""
    plan, plain = joined.plan, _plain(joined, path, how)
    if not keeps_cells(path):
        yield plain
        return
    _refuse_chosen(plan, path)
    cells = _named(plan, how, path)
    kept = kept_tables(Path(cells)) if isinstance(cells, (str, Path)) else None
    state = state_of(kept)
    _check_same(plan, cells)
    with _opened(cells, plan) as source:
        if source.n_cells < plan.n_cells:
            raise CellsError(
                f"{cells} has {source.n_cells:,} cells, and the parts are of {plan.n_cells:,}. Name the cells that "
                "were embedded with --cells (cells=...)."
            )
        if kept is not None and path.suffix.lower() != ".census":
            if path.suffix.lower() == ".h5ad":
                check_key(kept, plan.key)
            yield replace(plain, source=kept, state=state, names=source.cell_names)
            return
        read = target_of(path, source, plan.n_cells, plan.dim, plan.key, EmbedOptions())
        yield replace(plain, genes=read.genes, obs=read.obs, joinids=read.joinids, names=source.cell_names)


def _refuse_chosen(plan: Plan, path: Path) -> None:
    if plan.asked.get("rows") is not None:
        raise OutputError(
            f"The parts are of chosen cells, and {path.name} would keep what is told of all. Merge into .npy, .parquet "
            f"or .csv, or run the command that made them again, which finishes them as {path.suffix} too."
        )


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
    where, _, name = str(plan.facts.get("counts", "")).partition("/")
    return open_cells(
        cells,
        layer=name if where == "layers" else where if where in ("X", "raw") else None,
        modality=str(plan.facts.get("modality", "")) or None,
        cells_in=plan.asked.get("cells_in"),
        where=plan.asked.get("where"),
        organism=plan.asked.get("organism"),
    )


def destination(plan: Plan, output: Path | str, how: MergeOptions) -> Path:
    """The output, links followed; it is none of the cells, and can be written."""
    path = Path(os.path.realpath(output))
    writer_of(path)
    cells: Sequence[Path | str]
    cells = members(how.cells) if how.cells is not None else plan.origin.paths if plan.origin is not None else ()
    if path.exists() and any(Path(one).exists() and path.samefile(one) for one in cells):
        raise OutputError(f"{output} holds the cells that were embedded. Name another output.")
    check_path(path)
    return path


def _named(plan: Plan, how: MergeOptions, output: Path) -> CellPaths:
    """The cells, which an output keeps something of."""
    paths: Sequence[Path | str] = plan.origin.paths if how.cells is None and plan.origin is not None else ()
    paths = paths if how.cells is None else members(how.cells)
    if not paths:
        raise CellsError(f"The cells lay in no file, and {output.name} keeps what is told of each. {_REMEDY}")
    gone = [str(path) for path in paths if not _is_there(path)]
    if gone:
        raise CellsError(f"{gone[0]} is not there, and {output.name} keeps what is told of each cell. {_REMEDY}")
    return paths[0] if len(paths) == 1 else list(paths)


def _is_there(path: Path | str) -> bool:
    """Whether it is; what lies elsewhere, such as in a bucket, shows when it is opened."""
    place = place_of(path)
    return Path(path).exists() if place is None else place.path is None or place.path.exists()


def _check_same(plan: Plan, cells: CellPaths) -> None:
    """Make sure that the cells are those of the parts."""
    paths = [cells] if isinstance(cells, (str, Path)) else cells
    if plan.origin is not None:
        now, then = Origin.of(paths), plan.origin
        elsewhere = not then.size and list(map(place_of, paths)) != list(map(place_of, then.paths))
        if elsewhere or (now.size, now.sample) != (then.size, then.sample):
            raise CellsError(
                f"{paths[0]} is not what was embedded: {now.size:,} bytes instead of {then.size:,}, or other ones. "
                f"{_REMEDY}"
            )
