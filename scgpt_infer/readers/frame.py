"""A table of cells or genes (obs, var) in an HDF5 file or zarr store, read column by column and row range by row range.

Knows the encodings anndata has had: groups with string, numeric, nullable and categorical columns
(categories in the column, or shared in ``__categories``), and before 0.7 one compound dataset
with the categories in ``uns``.
"""

import warnings
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers.damage import reading
from scgpt_infer.readers.names import INDEX, texts
from scgpt_infer.readers.nodes import Group, ZarrArray, ZarrGroup, is_array
from scgpt_runtime.errors import CellsError

__all__ = ["Frame"]

FEW = 1 << 16
"""Categories of a column that are kept from one slice for the next. There are columns, the index even, that have as
many as rows: of those a slice reads what it needs."""

NEAR = 256
"""Categories that lie no farther apart are read in one piece, and those between are thrown away."""


class Frame:
    """One table.

    Parameters
    ----------
    element
        Its group, or its compound dataset.
    where
        Name of the table in messages.

    Attributes
    ----------
    n_rows
        Number of rows.
    columns
        Names of the columns, the index not among them.
    named
        The name of the index where it has one of its own, by which it may be asked for.
    """

    def __init__(self, element: Group | h5py.Dataset, where: str) -> None:
        self._element, self._where = element, where
        with reading(where):
            names = _column_names(element)
            self._index = _index_name(element, names, where)
            self.columns = [name for name in names if name != self._index]
            self.named = [] if self._index in (INDEX, "_index") else [self._index]
            self.n_rows = _length(element, self._index)
        self._categories: dict[str, list[str]] = {}

    def table(self) -> Any:
        """All of it, a pandas DataFrame."""
        from anndata.io import read_elem  # slow to import, and most sources are never asked for this

        with reading(self._where), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of encodings that anndata may drop one day
            return read_elem(self._element.node if isinstance(self._element, ZarrGroup) else self._element)

    def column(self, name: str, start: int = 0, stop: int | None = None) -> list[str]:
        """Values of a column as text, rows ``start`` to ``stop``; ``"index"`` is the index."""
        name = self._index if name == INDEX else name
        with reading(f"Column {name!r} of {self._where}"):
            rows = slice(start, self.n_rows if stop is None else stop)
            if isinstance(self._element, h5py.Dataset):
                return self._compound_column(self._element, name, rows)
            column = self._element[name]
            if is_array(column):
                shared = column.attrs.get("categories")  # a reference in HDF5, a path in zarr
                if shared is None:
                    return texts(column[rows])
                return self._categorical(name, column[rows], self._element[shared])
            if "codes" in column:
                return self._categorical(name, column["codes"][rows], column["categories"])
            return _nullable(column, rows)

    def _compound_column(self, table: h5py.Dataset, name: str, rows: slice) -> list[str]:
        values = table.fields(name)[rows]
        categories = f"/uns/{name}_categories"
        if values.dtype.kind in "iu" and categories in table.file:
            return self._categorical(name, values, table.file[categories])
        return texts(values)

    def _categorical(self, name: str, codes: NDArray[np.integer], categories: Any) -> list[str]:
        n_categories = _rows_of(categories)
        if n_categories > FEW:
            found = _some(categories, np.unique(codes[codes >= 0]).astype(np.int64))
            return ["" if code < 0 else found[code] for code in codes.tolist()]
        if name not in self._categories:
            self._categories[name] = _texts(categories, slice(0, n_categories))
        words = self._categories[name]
        return ["" if code < 0 else words[code] for code in codes.tolist()]


def _column_names(element: Group | h5py.Dataset) -> list[str]:
    if is_array(element):
        return [] if isinstance(element, ZarrArray) else list(element.dtype.names or ())
    # A name with a slash is nested in the file: only the list of columns tells that it is one name.
    listed = texts(np.ravel(element.attrs.get("column-order", np.array([], object))))
    return listed + [name for name in texts(element) if name not in listed and name != "__categories"]


def _index_name(element: Group | h5py.Dataset, names: list[str], where: str) -> str:
    if is_array(element):
        if not names:
            raise CellsError(f"{where} is no table. Write the file again with anndata.")
        return names[0]
    stated = texts([element.attrs["_index"]]) if "_index" in element.attrs else []
    for name in (*stated, "_index", INDEX):
        if name in names or name in element:
            return name
    raise CellsError(
        f"{where} has no index; expected a column named by its attribute '_index'. Write the file again with anndata."
    )


def _length(element: Group | h5py.Dataset, index: str) -> int:
    if isinstance(element, h5py.Dataset):
        return int(element.shape[0])
    column = element[index]
    return _rows_of(column["codes"] if not is_array(column) and "codes" in column else column)


def _rows_of(column: Any) -> int:
    """Length of an array, or of a group of values and what is missing among them."""
    return int((column if is_array(column) else column["values"]).shape[0])


def _texts(column: Any, rows: slice) -> list[str]:
    return texts(column[rows]) if is_array(column) else _nullable(column, rows)


def _nullable(column: Any, rows: slice) -> list[str]:
    values, missing = texts(column["values"][rows]), column["mask"][rows]
    return ["" if absent else value for value, absent in zip(values, missing, strict=True)]


def _some(categories: Any, codes: NDArray[np.int64]) -> dict[int, str]:
    """The categories of codes, which rise."""
    found: dict[int, str] = {}
    for near in np.split(codes, np.flatnonzero(np.diff(codes) > NEAR) + 1):
        if len(near):
            low = int(near[0])
            words = _texts(categories, slice(low, int(near[-1]) + 1))
            found |= {code: words[code - low] for code in near.tolist()}
    return found
