"""Cells of MuData with several of its modalities: a file of HDF5 or zarr that is open, or an object in memory.

In: the modalities and where each has its cells. Out: `JoinedCells` over all cells of the whole.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers.damage import reading
from scgpt_infer.readers.frame import Frame
from scgpt_infer.readers.group import CellTable, GroupCells
from scgpt_infer.readers.joined import Features, JoinedCells, Matrix
from scgpt_infer.readers.names import INDEX, cell_text, no_column, texts
from scgpt_infer.readers.nodes import Group
from scgpt_runtime.errors import CellsError

if TYPE_CHECKING:
    from mudata import MuData

__all__ = ["join_mudata", "join_stored"]

Places = NDArray[np.int64]
Choice = Callable[[tuple[str, ...], str], Sequence[str]]
_UPDATE = "Write it again with mudata, after update()."


def join_stored(
    path: Path, file: Group, close: Callable[[], None], choice: Choice, layer: str | None, threads: int | None
) -> JoinedCells:
    """Join modalities of a file that is laid out as mudata does it; see `scgpt_infer.readers.several.open_several`."""
    where = str(path)
    with reading(where):
        modalities, obs, obsmap = file["mod"], file.get("obs"), file.get("obsmap")
        names, axis = tuple(texts(modalities)), int(file.attrs.get("axis", 0))
    _check_axis(axis, where)
    parts: dict[str, Any] = {}
    maps: dict[str, Any] = {}
    for name in _asked(choice, names, where):
        with reading(f"mod/{name} of {where}"):
            group = modalities[name]
            has_layer = layer in ("X", "raw", None) or f"layers/{layer}" in group
            maps[name] = None if obsmap is None or name not in obsmap else np.ravel(np.asarray(obsmap[name][:]))
        own = layer if has_layer else None
        parts[name] = GroupCells(path, group, lambda: None, f"mod/{name} of {where}", layer=own, threads=threads)
    table = None if obs is None else Frame(obs, f"obs of {where}")
    return _joined(path, parts, maps, table, where, close)


def join_mudata(cells: "MuData", choice: Choice, layer: str | None) -> JoinedCells:
    """Join modalities of an object in memory, which is never changed."""
    from scgpt_infer.readers.memory import AnnDataCells, TableOfObject

    where = "the MuData object"
    _check_axis(int(getattr(cells, "axis", 0)), where)
    parts: dict[str, Any] = {}
    maps: dict[str, Any] = {}
    for name in _asked(choice, tuple(cells.mod), where):
        own = cells.mod[name]
        has_layer = layer in ("X", "raw", None) or layer in own.layers
        parts[name] = AnnDataCells(own, layer=layer if has_layer else None)
        maps[name] = np.ravel(np.asarray(cells.obsmap[name])) if name in cells.obsmap else None
    return _joined(None, parts, maps, TableOfObject(cells.obs), where, lambda: None)


def _check_axis(axis: int, where: str) -> None:
    if axis != 0:
        raise CellsError(
            f"The modalities of {where} share features, not cells (axis {axis}); expected axis 0: one cell in all of "
            "them. Take one modality of it as cells."
        )


def _asked(choice: Choice, names: tuple[str, ...], where: str) -> Sequence[str]:
    if not names:
        raise CellsError(f"{where} has no modalities; expected at least one under mod. {_UPDATE}")
    return choice(names, where)


def _joined(
    path: Path | None,
    parts: Mapping[str, Any],
    maps: Mapping[str, Any],
    table: CellTable | None,
    where: str,
    close: Callable[[], None],
) -> JoinedCells:
    """Modalities side by side: the cells are those of `table`, or, where nothing maps them, all names there are."""
    if table is None or any(found is None for found in maps.values()):
        named = {name: part.cell_names(0, part.n_cells) for name, part in parts.items()}
        cells = list(dict.fromkeys(cell for names in named.values() for cell in names))
        places = {name: _by_name(cells, names, f"mod/{name} of {where}") for name, names in named.items()}
        told = _Cells(cells, None, parts, places, where)
    else:
        cells = []
        places = {
            name: _by_map(found, table.n_rows, parts[name].n_cells, f"obsmap/{name} of {where}")
            for name, found in maps.items()
        }
        told = _Cells(cells, table, parts, places, where)
    matrices = [
        Matrix(
            f"mod/{name}/{part.counts}",
            part.values,
            part.rows,
            (Features(name, np.arange(part.n_genes), part.gene_names),),
            part.gene_names[INDEX],
            _plain(places[name], part.n_cells),
        )
        for name, part in parts.items()
    ]
    n_cells = len(cells) if told.table is None else told.table.n_rows
    why = "; ".join(f"{name}: {part.why}" for name, part in parts.items())
    return JoinedCells(path, n_cells, matrices, told, why, close)


def _by_name(cells: Sequence[str], names: Sequence[str], where: str) -> Places:
    place = {cell: row for row, cell in enumerate(names)}
    if len(place) != len(names):
        raise CellsError(
            f"{where} has two cells of one name, so it cannot be told which cells of the modalities are one. {_UPDATE}"
        )
    return np.array([place.get(cell, -1) for cell in cells], np.int64)


def _by_map(found: NDArray[Any], n_cells: int, n_rows: int, where: str) -> Places:
    """Rows of a modality by cell: in the map 1 is the modality's first cell, 0 none of its cells."""
    rows = found.astype(np.int64)
    there = rows[rows > 0]
    if len(rows) != n_cells or rows.min(initial=0) < 0 or rows.max(initial=0) > n_rows or _repeat(there):
        raise CellsError(
            f"{where} does not say where the cells of the modality are among all cells (obs). It was changed by hand "
            f"or by a faulty program. {_UPDATE}"
        )
    return rows - 1


def _repeat(rows: Places) -> bool:
    return len(np.unique(rows)) != len(rows)


def _plain(places: Places, n_rows: int) -> Places | None:
    """None where the modality's rows are the cells, one by one."""
    return None if len(places) == n_rows and np.array_equal(places, np.arange(n_rows)) else places


@dataclass(frozen=True, slots=True)
class _Cells:
    """What is said of the cells: by the whole, and by each modality."""

    names: Sequence[str]
    table: CellTable | None
    parts: Mapping[str, Any]
    places: Mapping[str, Places]
    where: str

    @property
    def cell_columns(self) -> tuple[str, ...]:
        """Columns of the whole, then those that only a modality has, after its name and a colon."""
        own = () if self.table is None else tuple(name for name in self.table.columns if name != INDEX)
        of_parts = [f"{part}:{name}" for part, cells in self.parts.items() for name in cells.cell_columns]
        return (*own, *(name for name in of_parts if name not in own and name.partition(":")[2] not in own))

    def cell_names(self, start: int, stop: int) -> list[str]:
        """Names of the cells."""
        return list(self.names[start:stop]) if self.table is None else self.table.column(INDEX, start, stop)

    def cell_column(self, name: str) -> NDArray[np.str_]:
        """A column as text; that of a modality with or without the modality's name, where only one has it."""
        if name == INDEX or (self.table is not None and name in (*self.table.columns, *self.table.named)):
            return cell_text(self.cell_names(0, len(self.names)) if self.table is None else self.table.column(name))
        fitting = [
            part
            for part, cells in self.parts.items()
            if name.removeprefix(f"{part}:") in cells.cell_columns and (":" not in name or name.startswith(f"{part}:"))
        ]
        if len(fitting) != 1:
            raise no_column(f"obs of {self.where}", name, self.cell_columns)
        values = self.parts[fitting[0]].cell_column(name.removeprefix(f"{fitting[0]}:"))
        return np.append(values, "")[self.places[fitting[0]]]

    def cell_table(self) -> Any:
        """The whole's obs, a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(index=pd.Index(self.names)) if self.table is None else self.table.table()
