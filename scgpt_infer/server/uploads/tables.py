"""How the parts of an h5ad upload fit together: columns as long as their table, codes that have a word.

The group comes walked through, so it can be read. What is no h5ad is left to the readers, as the matrix is.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from scgpt_infer.readers.frame import Frame
from scgpt_runtime.errors import CellsError

__all__ = ["check_tables"]

_AT_ONCE = 1 << 20
_SHOWN = 100
_AGAIN = "The file was not written whole, or by a faulty program: write it again."


def check_tables(file: h5py.File, path: Path) -> None:
    """Refuse tables whose columns differ in length, codes without a word, and ``obsm`` of other cells.

    Raises
    ------
    CellsError
        As said.
    """
    for name in ("obs", "var", "raw/var"):
        table = file.get(name)
        if isinstance(table, h5py.Group):
            _check_names(table, f"{name} of {path}")
            n_rows = Frame(table, f"{name} of {path}").n_rows
            for column in table:
                if column != "__categories":
                    _check_column(table[column], f"{name}[{column!r}] of {path}", n_rows)
            if name == "obs" and isinstance(file.get("obsm"), h5py.Group):
                _check_obsm(file["obsm"], n_rows, path)


def _check_names(table: h5py.Group, where: str) -> None:
    """Columns that a table names must be its own: what begins with a slash leads to those of others."""
    named = [table.attrs["_index"]] if "_index" in table.attrs else []
    listed = table.attrs.get("column-order")
    for name in (*named, *(() if listed is None or isinstance(listed, h5py.Empty) else np.ravel(listed))):
        text = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
        if not isinstance(text, str) or not text or text.startswith("/") or text not in table:
            shown = repr(str(text))[:_SHOWN] if isinstance(text, str) else "what is no text"
            raise CellsError(f"{where} names {shown} its index or a column; expected a column that it has. {_AGAIN}")


def _check_column(column: Any, where: str, n_rows: int) -> None:
    for part in _parts(column):
        if part.shape is None or part.shape[:1] != (n_rows,):
            found = "no" if not part.shape else f"{part.shape[0]:,}"
            raise CellsError(f"{where} has {found} values; expected {n_rows:,}, one for each row. {_AGAIN}")
    if isinstance(column, h5py.Group) and isinstance(column.get("codes"), h5py.Dataset):
        words = column.get("categories")
        _check_codes(column["codes"], where, 0 if words is None else _length(words))
    elif isinstance(column, h5py.Dataset) and "categories" in column.attrs:
        _check_codes(column, where, _length(column.file[column.attrs["categories"]]))


def _parts(column: Any) -> Iterator[Any]:
    """Arrays of a column that have a value for each row."""
    if isinstance(column, h5py.Dataset):
        yield column
    else:
        yield from (column[name] for name in ("codes", "values", "mask") if isinstance(column.get(name), h5py.Dataset))


def _length(words: Any) -> int:
    values = words if isinstance(words, h5py.Dataset) else words.get("values")
    return int(values.shape[0]) if isinstance(values, h5py.Dataset) and values.shape else 0


def _check_codes(codes: Any, where: str, n_words: int) -> None:
    if codes.dtype.kind not in "iu":
        raise CellsError(f"{where} has codes of type {codes.dtype}; expected integers. {_AGAIN}")
    for start in range(0, codes.shape[0], _AT_ONCE):
        highest = int(np.max(codes[start : start + _AT_ONCE], initial=-1))
        if highest >= n_words:
            raise CellsError(f"{where} has the code {highest:,} and {n_words:,} words; expected one for each. {_AGAIN}")


def _check_obsm(obsm: h5py.Group, n_cells: int, path: Path) -> None:
    for name, found in obsm.items():
        if isinstance(found, h5py.Dataset) and (found.shape is None or found.shape[:1] != (n_cells,)):
            raise CellsError(
                f"obsm[{name!r}] of {path} has the shape {found.shape}; expected {n_cells:,} rows. {_AGAIN}"
            )
