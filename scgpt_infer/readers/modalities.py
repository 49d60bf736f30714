"""Cells of one modality of a MuData file: which one is read, and what the file says of its cells beside it.

The file comes open, of HDF5 or zarr. The cells are those of the modality, not of the file, in the modality's order.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers.damage import reading
from scgpt_infer.readers.features import GENES
from scgpt_infer.readers.frame import Frame
from scgpt_infer.readers.group import CellTable, GroupCells
from scgpt_infer.readers.names import INDEX, texts
from scgpt_infer.readers.nodes import Group
from scgpt_infer.readers.room import ROOM, ReadingRoom
from scgpt_runtime.errors import CellsError
from scgpt_runtime.vocab import stable_id

__all__ = ["open_modality"]

RNA = ("rna", "gex", "gene expression", "gene_expression", "geneexpression")
LOOKED_AT = 1000  # features that tell whether a modality is one of genes


def open_modality(
    path: Path,
    file: Group,
    close: Callable[[], None],
    *,
    layer: str | None = None,
    threads: int | None = None,
    room: ReadingRoom = ROOM,
    modality: str | None = None,
) -> GroupCells:
    """Open one modality of a MuData file.

    Parameters
    ----------
    path
        The file.
    file
        Its group that has ``mod``.
    close
        Closes the file.
    layer, threads, room, modality
        See `scgpt_infer.readers.open_cells`.

    Raises
    ------
    CellsError
        If there is no such modality, several may be meant, or it cannot be read.
    """
    with reading(f"mod of {path}"):
        modalities = file["mod"]
        names = texts(modalities)
    name = _chosen(names, modality, modalities, str(path))
    where = f"mod/{name} of {path}"
    with reading(where):
        group = modalities[name]
    cells = GroupCells(
        path, group, close, where, layer=layer, threads=threads, room=room, of_file=partial(_joined, file, name, path)
    )
    cells.why = f"it is of modality {name} (there {'is' if len(names) == 1 else 'are'} {', '.join(names)}); {cells.why}"
    return cells


def _chosen(names: Sequence[str], asked: str | None, modalities: Group, where: str) -> str:
    there = f"{where} has the modalities {', '.join(names) or '(none)'}"
    if asked is not None:
        fitting = [name for name in names if name == asked] or [name for name in names if name.lower() == asked.lower()]
        if len(fitting) != 1:
            raise CellsError(f"{there}, and {asked!r} was asked for. Choose one of them (--modality).")
        return fitting[0]
    for name in RNA:
        fitting = [there for there in names if there.lower() == name]
        if len(fitting) == 1:
            return fitting[0]
    fitting = list(names) if len(names) == 1 else [name for name in names if _is_of_genes(modalities, name, where)]
    if len(fitting) != 1:
        raise CellsError(f"{there}, and it cannot be told which is of RNA. Choose one (--modality).")
    return fitting[0]


def _is_of_genes(modalities: Group, name: str, where: str) -> bool:
    """Whether most features are said to be genes or, where nothing is said, have Ensembl's names of genes."""
    with reading(f"mod/{name} of {where}"):
        var = modalities[name].get("var")
    if var is None:
        return False
    features = Frame(var, f"var of mod/{name} of {where}")
    n_features = min(LOOKED_AT, features.n_rows)
    if "feature_types" in features.columns:
        n_genes = features.column("feature_types", 0, n_features).count(GENES)
        return 2 * n_genes > n_features
    columns = [INDEX, *(column for column in ("gene_ids",) if column in features.columns)]
    n_genes = max(sum(map(bool, map(stable_id, features.column(column, 0, n_features)))) for column in columns)
    return 2 * n_genes > n_features


def _joined(file: Group, name: str, path: Path, own: Frame) -> CellTable:
    with reading(f"obs of {path}"):
        obs, places = file.get("obs"), file.get(f"obsmap/{name}")
        if obs is None or places is None:
            return own
        rows = np.ravel(np.asarray(places[:])).astype(np.int64)  # 1 is the modality's first cell, 0 none of its cells
    whole = Frame(obs, f"obs of {path}")
    of_file = np.full(own.n_rows, -1, np.int64)
    here = np.flatnonzero(rows)
    outside = rows.min(initial=0) < 0 or rows.max(initial=0) > own.n_rows
    if len(rows) != whole.n_rows or len(np.unique(rows[here])) != len(here) or outside:
        raise CellsError(
            f"obsmap/{name} of {path} does not say where the cells of the modality are among all cells (obs). "
            "The file was changed by hand or by a faulty program: write it again with mudata, after update()."
        )
    of_file[rows[here] - 1] = here
    return _JoinedCells(name, own, whole, of_file)


class _JoinedCells:
    """The table of a modality's cells, with the columns that only the file has.

    Parameters
    ----------
    name
        The modality: in the file's table its columns may begin with this name and a colon.
    own
        Table of the modality.
    whole
        Table of the file.
    rows
        (n_cells,) the row of each cell in the file's table, -1 for none.
    """

    def __init__(self, name: str, own: Frame, whole: Frame, rows: NDArray[np.int64]) -> None:
        self.n_rows, self.named = own.n_rows, own.named
        self._own, self._whole, self._rows = own, whole, rows
        prefix = f"{name}:"
        plain = {column: column for column in whole.columns if not column.startswith(prefix)}
        named = {column.removeprefix(prefix): column for column in whole.columns if column.startswith(prefix)}
        self._of_file = {short: column for short, column in (plain | named).items() if short not in own.columns}
        self.columns = [*own.columns, *self._of_file]

    def column(self, name: str, start: int = 0, stop: int | None = None) -> list[str]:
        """Values of a column as text, rows ``start`` to ``stop``; ``"index"`` is the index."""
        if name not in self._of_file or name == INDEX:
            return self._own.column(name, start, stop)
        values = self._whole.column(self._of_file[name])
        return [values[row] if row >= 0 else "" for row in self._rows[start:stop].tolist()]

    def table(self) -> Any:
        """All of it, a pandas DataFrame."""
        table = self._own.table()
        whole = self._whole.table().reset_index(drop=True).reindex(self._rows)
        for name, column in self._of_file.items():
            if column in whole.columns:  # the name of the index is not
                table[name] = whole[column].array
        return table
