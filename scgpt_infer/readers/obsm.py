"""Features of cells that lie beside the matrix, in ``obsm``: a table, or an array whose names are in ``uns``.

An element of an AnnData object, or of an open file, comes in; rows and names go out. A table of a file is read column
by column and row range by row range.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers.damage import reading
from scgpt_infer.readers.elements import open_rows
from scgpt_infer.readers.matrix import DenseRows, Rows
from scgpt_infer.readers.names import texts
from scgpt_infer.readers.nodes import Group, ZarrGroup, is_array
from scgpt_runtime.errors import CellsError

__all__ = ["open_features", "tables"]

_EMBEDDINGS = "X_"
"""What the names of embeddings begin with, by convention: they are no features."""


def tables(obsm: Any) -> tuple[str, ...]:
    """Names of what may hold features, of a group or mapping; None has none."""
    return () if obsm is None else tuple(str(name) for name in obsm if not str(name).startswith(_EMBEDDINGS))


def open_features(
    element: Any, uns: Any, name: str, n_cells: int, where: str, threads: int | None = None
) -> tuple[Rows, list[str]]:
    """Open an element of ``obsm``.

    Parameters
    ----------
    element
        A pandas DataFrame, an array or sparse matrix, or what a file stores these as.
    uns
        Where the names of an array's columns are looked for: under the element's name with ``_names``, under
        ``protein_names``, and under the element's own name; None where there is none.
    name
        Of the element.
    n_cells
        Rows that it must have.
    where
        Its name in messages.
    threads
        Threads to inflate compressed values with; None takes the cores that this process may use.

    Returns
    -------
    rows, names
        The matrix, and a name for each of its columns.

    Raises
    ------
    CellsError
        If its columns have no names, or it is no matrix of numbers.
    """
    if hasattr(element, "iloc"):  # a DataFrame
        names = texts(element.columns)
        return open_rows(element.to_numpy(), where, (n_cells, len(names)), threads), names
    if isinstance(element, (h5py.Group, ZarrGroup)) and "column-order" in element.attrs:
        return _open_table(element, n_cells, where)
    with reading(where):
        shape = tuple(int(size) for size in (element.attrs["shape"] if not is_array(element) else element.shape))
        names = _names(uns, name, shape[-1])
    if not names:
        raise CellsError(
            f"The columns of {where} have no names; expected a table (DataFrame), or {shape[-1]:,} names in "
            f"uns[{name + '_names'!r}]. Put pandas.DataFrame(values, index=adata.obs_names, columns=names) there."
        )
    return open_rows(element, where, (n_cells, len(names)), threads), names


def _names(uns: Any, name: str, n_columns: int) -> list[str]:
    for key in (f"{name}_names", "protein_names", name):
        found = None if uns is None else uns.get(key)
        if found is None or isinstance(found, (Mapping, h5py.Group, ZarrGroup)) or np.shape(found) != (n_columns,):
            continue
        return texts(found[:])
    return []


def _open_table(table: Group, n_cells: int, where: str) -> tuple[Rows, list[str]]:
    with reading(where):
        names = texts(np.ravel(table.attrs["column-order"]))
        columns = [table[name] for name in names]
        plain = {is_array(column) and column.dtype.kind in "biuf" and column.shape == (n_cells,) for column in columns}
    if plain != {True}:
        raise CellsError(
            f"{where} is no table of plain numbers with a row for each of {n_cells:,} cells; expected one. "
            "Write it again without other columns."
        )
    return DenseRows(_SideBySide(columns, n_cells), where), names


class _SideBySide:
    """Columns of numbers as one array that is sliced by rows."""

    def __init__(self, columns: Sequence[Any], n_cells: int) -> None:
        self._columns = columns
        self.shape = (n_cells, len(columns))
        self.dtype = np.result_type(*(column.dtype for column in columns))

    def __getitem__(self, where: Any, /) -> NDArray[Any]:
        return np.stack([np.asarray(column[where]) for column in self._columns], axis=1)
