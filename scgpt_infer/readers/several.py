"""All modalities of some cells, opened as one source: `open_several`.

In: a file or an object that holds several modalities, in one of the ways that are usual. Out: `JoinedCells`. Which of
the modalities are read, the caller says when it has seen what there is. It knows nothing of models.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers import open_cells
from scgpt_infer.readers.bare import BareCells
from scgpt_infer.readers.counts import choose
from scgpt_infer.readers.damage import reading
from scgpt_infer.readers.group import GroupCells
from scgpt_infer.readers.h5ad import open_hdf5
from scgpt_infer.readers.joined import Features, JoinedCells, Matrix
from scgpt_infer.readers.mudata_cells import join_mudata, join_stored
from scgpt_infer.readers.names import INDEX
from scgpt_infer.readers.nodes import Group
from scgpt_infer.readers.obsm import open_features, tables
from scgpt_infer.readers.tenx_h5 import tenx_cells
from scgpt_infer.readers.zarr import open_store

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from scgpt_infer.readers.memory import AnnDataCells

__all__ = ["MATRIX", "Choice", "open_several"]

MATRIX = "X"
"""What the features of the matrix are called where nothing tells their modality."""

TYPES = ("feature_types", "modality", "feature_type")
"""Columns of ``var`` that tell the modality of a feature, the first that is there."""

Choice = Callable[[tuple[str, ...], str], Sequence[str]]
"""Told the names of the modalities, and that of the cells in messages; gives those to read, or raises."""


def open_several(
    cells: "AnnData | MuData | Path | str",
    choice: Choice,
    *,
    layer: str | None = None,
    threads: int | None = None,
) -> JoinedCells:
    """Open cells with several modalities; close the source when done, or use it in a ``with``.

    The modalities are those of MuData; or of AnnData the types of features in ``var`` (``feature_types`` or
    ``modality``; without such a column the matrix is one, ``X``) and the tables and arrays in ``obsm``; or of a matrix
    of Cell Ranger its types of features. The cells of MuData are all of its ``obs``: one that a modality does not have
    still has the others.

    Parameters
    ----------
    cells
        A file or folder that `scgpt_infer.readers.open_cells` takes, an AnnData or a MuData object.
    choice
        Says which of the modalities are read.
    layer
        As for `open_cells`; in MuData it counts for the modalities that have it.
    threads
        As for `open_cells`.

    Raises
    ------
    CellsError
        If the cells cannot be read, or a modality has no names.
    """
    if not isinstance(cells, (str, Path)):
        if type(cells).__module__.partition(".")[0] == "mudata":
            return join_mudata(cells, choice, layer)
        from scgpt_infer.readers.memory import AnnDataCells  # it imports anndata, which a path may not need

        return _beside(AnnDataCells(cells, layer=layer), choice, threads)
    path = Path(cells)
    if not path.exists() or not path.name.lower().endswith((".h5", ".h5ad", ".h5mu", ".zarr", ".zarr.zip")):
        found = open_cells(path, layer=layer, threads=threads)  # which says what is wrong with other paths
        return _beside(found, choice, threads)  # type: ignore[arg-type]  # a bare one
    group, close = _opened(path)
    try:
        with reading(str(path)):
            parts = set(group.keys())
        if "mod" in parts:
            return join_stored(path, group, close, choice, layer, threads)
        if {"obs", "var"} <= parts or not path.name.lower().endswith(".h5"):
            return _beside(GroupCells(path, group, close, str(path), layer=layer, threads=threads), choice, threads)
        return _beside(tenx_cells(path, group, layer=layer, threads=threads, every=True), choice, threads)
    except BaseException:
        close()
        raise


def _opened(path: Path) -> tuple[Any, Callable[[], None]]:
    if ".zarr" in path.suffixes:
        return open_store(path)
    file = open_hdf5(path, f"a {path.suffix} file")
    return file, file.close


def _beside(source: "AnnDataCells | BareCells | GroupCells", choice: Choice, threads: int | None) -> JoinedCells:
    """The matrix of a source, its columns cut by modality, and what lies beside it in ``obsm``."""
    where = "the AnnData object" if source.path is None else str(source.path)
    of_matrix = _types(source)
    obsm, uns = source.beside
    others = [name for name in tables(obsm) if name not in of_matrix]
    asked = choice((*of_matrix, *others), where)
    matrices = [_of_obsm(obsm, uns, name, source.n_cells, where, threads) for name in asked if name not in of_matrix]
    features = tuple(
        Features(name, columns, _restricted(source, columns)) for name, columns in of_matrix.items() if name in asked
    )
    if features:
        index = source.gene_names[INDEX]
        matrices.insert(0, Matrix(source.counts, source.values, source.rows, features, index))
    return JoinedCells(source.path, source.n_cells, matrices, source, source.why, source.close)


def _types(source: "AnnDataCells | BareCells | GroupCells") -> dict[str, NDArray[np.int64]]:
    """Columns of the matrix by modality."""
    column = next((name for name in TYPES if name in source.gene_names.columns), None)
    if column is None:
        return {MATRIX: np.arange(source.n_genes)}
    told = np.array([name or MATRIX for name in source.gene_names.column(column)], np.str_)
    return {str(name): np.flatnonzero(told == name) for name in dict.fromkeys(told.tolist())}


def _restricted(source: "AnnDataCells | BareCells | GroupCells", columns: NDArray[np.int64]) -> dict[str, list[str]]:
    picked = columns.tolist()
    return {name: [names[column] for column in picked] for name, names in source.gene_names.items()}


def _of_obsm(obsm: Group | Any, uns: Any, name: str, n_cells: int, where: str, threads: int | None) -> Matrix:
    told = f"obsm[{name!r}] of {where}"
    rows, names = open_features(obsm[name], uns, name, n_cells, told, threads)
    found = choose({"X": lambda: rows}, None, False, told)  # refuses what is scaled
    features = Features(name, np.arange(len(names)), {INDEX: names})
    return Matrix(f"obsm/{name}", found.values, rows, (features,), names)
