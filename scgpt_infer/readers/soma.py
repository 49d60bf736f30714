"""Cells of a TileDB-SOMA experiment, or of a query of the CELLxGENE Census, in ascending order of their joinids.

A place and a filter come in, a `CellSource` goes out. Row ranges are read as they are asked for, from a folder or
over the network; of the size of the experiment only the joinids of a filter are held, 8 bytes each.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers import matrix
from scgpt_infer.readers.counts import Counts, choose
from scgpt_infer.readers.joinids import JOINID, Joinids, joinids_of
from scgpt_infer.readers.matrix import Rows
from scgpt_infer.readers.names import INDEX, GeneNames, cell_text, no_column
from scgpt_infer.readers.places import Place
from scgpt_infer.readers.room import ROOM, ReadingRoom
from scgpt_infer.readers.soma_rows import open_soma_rows
from scgpt_infer.readers.soma_store import Store, asking
from scgpt_infer.readers.soma_table import SomaTable
from scgpt_infer.readers.source import Stored
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import CellsError
from scgpt_runtime.machine import cores

__all__ = ["SomaCells", "open_soma"]

_X = "data"
"""What tiledbsoma calls the layer that is made of X."""
_CELL_NAMES, _GENE_NAMES = ("obs_id",), ("var_id", "feature_id")


def open_soma(
    place: Place,
    *,
    layer: str | None = None,
    threads: int | None = None,
    modality: str | None = None,
    where: str | None = None,
    organism: str | None = None,
    room: ReadingRoom = ROOM,
) -> "SomaCells":
    """Open the cells of an experiment; the parameters are those of `scgpt_infer.readers.open_cells`.

    Raises
    ------
    CellsError
        If there is no such experiment, measurement, organism or layer, the filter cannot be understood or lets no cell
        through, or nothing in it can be embedded.
    MissingDependencyError
        If tiledbsoma, or for a release of the Census cellxgene-census, is not installed.
    """
    store = Store.open(place, organism, modality, cores().usable if threads is None else threads, room)
    try:
        return SomaCells(store, place.path, layer=layer, where=where, room=room)
    except BaseException:
        store.close()
        raise


class SomaCells:
    """A `CellSource` over an experiment.

    Parameters
    ----------
    store
        The experiment, open; it is closed with the cells.
    path
        Its folder, where it is one of this machine.
    layer, where, room
        See `scgpt_infer.readers.open_cells`.

    Attributes
    ----------
    origin
        Where the cells are from, as far as it is told: ``uri`` (where it is no folder), ``census_version``,
        ``organism``, ``measurement``, ``where``.
    """

    def __init__(
        self,
        store: Store,
        path: Path | None,
        *,
        layer: str | None = None,
        where: str | None = None,
        room: ReadingRoom = ROOM,
    ) -> None:
        self.path: Path | None = path
        self._store, self._where = store, store.where
        self._joinids = _wanted(store, where)
        self._obs = SomaTable(store.obs, self._joinids, _CELL_NAMES, f"obs of {store.where}")
        matrices, genes = _matrices(store, self._joinids, room)
        counts = _chosen(matrices, layer, store)
        self._rows = counts.rows
        self.counts, self.values, self.why = counts.name, counts.values, counts.why
        self.n_cells, self.n_genes = counts.rows.shape
        var = genes[counts.name]
        self.gene_names = GeneNames([*var.columns, *var.named], var.column, f"var of {store.where}")
        self.cell_columns = tuple(self._obs.columns)
        origin = {**store.origin, "where": where or ""}
        self.origin: Mapping[str, str] = {name: told for name, told in origin.items() if told}

    @property
    def rows(self) -> Rows:
        """The matrix that is read."""
        return self._rows

    @property
    def beside(self) -> tuple[Any, Any]:
        """No ``obsm`` and no ``uns`` that would be read."""
        return None, None

    def joinids(self, start: int, stop: int) -> NDArray[np.int64]:
        """Joinids of the cells of rows ``start`` to ``stop``, ascending."""
        return np.asarray(self._joinids[start:stop], np.int64)

    def gene_column(self, name: str) -> Sequence[str]:
        """Gene names of any column of var."""
        return self.gene_names.ask(name)

    def cell_names(self, start: int, stop: int) -> list[str]:
        """Names of the cells of rows ``start`` to ``stop``: their ``obs_id``, or where there is none their joinids."""
        return self._obs.column(INDEX, start, stop)

    def cell_column(self, name: str) -> NDArray[np.str_]:
        """A column of obs as text."""
        if name not in (*self.cell_columns, *self._obs.named, JOINID, INDEX):
            raise no_column(f"obs of {self._where}", name, self.cell_columns)
        return cell_text(self._obs.column(name))

    def cell_table(self) -> Any:
        """Obs of the cells that are read, a pandas DataFrame; their joinids are a column of it."""
        return self._obs.table()

    def stored(self, key: str) -> Stored | None:
        """None: an experiment is only read."""
        return None

    def blocks(self, spans: Iterable[range]) -> Iterator[CellBlock]:
        """The cells of each span of rows."""
        return matrix.blocks(self._rows, spans)

    def sample(self, n: int = 1000) -> CellBlock:
        """About ``n`` cells spread evenly over the experiment."""
        return matrix.sample(self._rows, n)

    def close(self) -> None:
        """Close the experiment."""
        self._rows.close()
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _wanted(store: Store, where: str | None) -> Joinids:
    wanted = joinids_of(store.obs, where, f"obs of {store.where}")
    if not len(wanted):
        found = "has no cells" if where is None else f"has no cell where {where}"
        raise CellsError(f"{store.where} {found}; there is nothing to embed. Check the filter and the experiment.")
    return wanted


def _matrices(
    store: Store, cells: Joinids, room: ReadingRoom
) -> tuple[dict[str, Callable[[], Rows]], dict[str, SomaTable]]:
    """All layers by the names that matrices have here, and the genes of each."""
    matrices: dict[str, Callable[[], Rows]] = {}
    tables: dict[str, SomaTable] = {}
    for measurement, is_raw in ((store.measurement, False), (store.raw, True)):
        if measurement is None:
            continue
        told = f"{'raw ' if is_raw else ''}var of {store.where}"
        genes = joinids_of(measurement.var, None, told)
        var = SomaTable(measurement.var, genes, _GENE_NAMES, told)
        with asking(store.where):
            layers = [name for name in measurement.X if name == _X] if is_raw else list(measurement.X)
        for layer in layers:
            name = "raw/X" if is_raw else "X" if layer == _X else f"layers/{layer}"
            opened = partial(_open, store, measurement, layer, cells, genes, f"{name} of {store.where}", room)
            matrices[name], tables[name] = opened, var
    return matrices, tables


def _open(
    store: Store, measurement: Any, layer: str, cells: Joinids, genes: Joinids, where: str, room: ReadingRoom
) -> Rows:
    with asking(where):
        array = measurement.X[layer]
    return open_soma_rows(array, cells, genes, where, store.read_bytes, room)


def _chosen(matrices: Mapping[str, Callable[[], Rows]], layer: str | None, store: Store) -> Counts:
    """As of any source; where neither ``counts`` nor ``data`` is there, ``raw``, as the Census calls its counts."""
    with asking(store.where):
        uns = store.measurement.get("uns", {})
        logged = "log1p" in uns
    if layer is None and "layers/raw" in matrices and not {"layers/counts", "X"} & set(matrices):
        found = choose(matrices, "raw", logged, store.where)
        return replace(found, why="there is no layer 'counts' or 'data', and one 'raw'")
    return choose(matrices, layer, logged, store.where)
