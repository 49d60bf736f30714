"""Rows of a SOMA array by joinids, the numbers that SOMA joins its parts by: a layer of a measurement, sparse or dense.

Only what is asked for is read, and nothing is kept. How the array was opened, and what its cells are, it does not know.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from scgpt_infer.readers.joinids import Joinids, asked, places
from scgpt_infer.readers.matrix import DenseRows, Rows, to_float32
from scgpt_infer.readers.room import ReadingRoom
from scgpt_infer.readers.soma_store import asking
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import CellsError

__all__ = ["open_soma_rows"]

VALUES = "soma_data"
# Of a value with its row and column: as Arrow and as numpy 20 each, as CSR 8, and while that is made 16.
_VALUE_BYTES = 64


def open_soma_rows(array: Any, cells: Joinids, genes: Joinids, where: str, read_bytes: int, room: ReadingRoom) -> Rows:
    """Open a layer for reading by rows.

    Parameters
    ----------
    array
        SOMA array, cells by genes.
    cells, genes
        Joinids of the cells and genes that are read.
    where
        Name of the array in messages.
    read_bytes
        What TileDB holds at the most while it reads.
    room
        Memory that rows of a dense array may take.

    Raises
    ------
    CellsError
        If its values are no numbers, or it is smaller than the tables of cells and genes.
    """
    with asking(where):
        kind, shape, is_dense = _dtype(array), array.shape, array.soma_type == "SOMADenseNDArray"
    if kind.kind not in "biuf":
        raise CellsError(f"{where} holds values of type {kind}; expected numbers. Choose another layer (--layer).")
    if len(shape) != 2 or any(len(ids) and ids[-1] >= size for ids, size in zip((cells, genes), shape, strict=True)):
        raise CellsError(
            f"{where} has the shape {shape}, and obs and var name {len(cells):,} cells and {len(genes):,} genes beyond "
            "it. The experiment was not written whole: write it again."
        )
    if is_dense:
        return DenseRows(_DenseArray(array, cells, genes), where, room)
    return _SparseRows(array, cells, genes, where, read_bytes)


class _SparseRows:
    """Some rows and columns of a sparse array."""

    def __init__(self, array: Any, cells: Joinids, genes: Joinids, where: str, read_bytes: int) -> None:
        self.shape = (len(cells), len(genes))
        self._array, self._cells, self._genes, self._where = array, cells, genes, where
        self._read_bytes = read_bytes

    def read(self, start: int, stop: int) -> CellBlock:
        """Rows ``start`` to ``stop``."""
        cells = self._cells[start:stop]
        rows, columns, values = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.float32)]
        with asking(f"Rows {start:,} to {stop - 1:,} of {self._where}"):
            for table in self._array.read(coords=(asked(cells),)).tables() if len(cells) else ():
                rows.append(places(table["soma_dim_0"].to_numpy(), cells))
                columns.append(self._columns(table["soma_dim_1"].to_numpy()))
                values.append(to_float32(table[VALUES].to_numpy()))
        where = (np.concatenate(rows), np.concatenate(columns))
        matrix = sparse.csr_matrix((np.concatenate(values), where), shape=(len(cells), self.shape[1]))
        indptr, indices = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32, copy=False)
        return CellBlock(indptr, indices, matrix.data, start)

    def weight(self, n_rows: int, widest: int) -> int:
        """Most bytes that come up while rows are read; see `scgpt_infer.readers.room.Weighed`."""
        return self._read_bytes + _VALUE_BYTES * n_rows * widest

    def close(self) -> None:
        """Nothing to give back."""

    def _columns(self, joinids: NDArray[np.int64]) -> NDArray[np.int64]:
        columns = places(joinids, self._genes)
        if np.any(columns < 0):
            raise CellsError(
                f"{self._where} has a value of the gene of joinid {joinids[columns < 0][0]}, which var does not have. "
                "The experiment was not written whole, or parts of two are mixed: write it again."
            )
        return columns


class _DenseArray:
    """Some rows and columns of a dense array, sliced as an array of numpy is."""

    def __init__(self, array: Any, cells: Joinids, genes: Joinids) -> None:
        self.shape = (len(cells), len(genes))
        self.dtype = _dtype(array)
        self._array, self._cells, self._genes = array, cells, genes

    def __getitem__(self, where: slice, /) -> NDArray[Any]:
        cells = np.asarray(self._cells[where])
        runs = np.split(cells, np.flatnonzero(np.diff(cells) != 1) + 1)
        read = [self._array.read(coords=(slice(int(run[0]), int(run[-1])),)).to_numpy() for run in runs]
        rows: NDArray[Any] = np.concatenate(read)
        return rows[:, np.asarray(self._genes)]


def _dtype(array: Any) -> np.dtype[Any]:
    found: np.dtype[Any] = np.dtype(array.schema.field(VALUES).type.to_pandas_dtype())
    return found
