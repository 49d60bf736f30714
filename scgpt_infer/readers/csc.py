"""Row ranges of a CSC matrix, which is stored by genes: its entries are regrouped by cells once."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers.damage import reading
from scgpt_infer.readers.matrix import Sliceable, check_compressed
from scgpt_infer.readers.regroup import RegroupedRows
from scgpt_infer.readers.room import ROOM
from scgpt_runtime.cells import CellBlock

__all__ = ["CscRows"]


class CscRows:
    """Rows of a CSC matrix.

    Parameters
    ----------
    indptr, indices, data
        The three arrays.
    shape
        Cells and genes.
    where
        Name of the matrix in messages.
    budget
        Bytes that are regrouped at once, see `scgpt_infer.readers.regroup`.

    Raises
    ------
    CellsError
        If the arrays do not fit each other or the shape.
    """

    def __init__(
        self,
        indptr: Sliceable,
        indices: Sliceable,
        data: Sliceable,
        shape: tuple[int, int],
        where: str,
        budget: int = ROOM.bucket_bytes,
    ) -> None:
        check_compressed(indptr, indices, data, shape[1], where)
        self.shape = shape
        with reading(f"indptr of {where}"):
            columns = _Columns(np.asarray(indptr[:]).astype(np.int64))  # one entry a gene: small
        self._rows = RegroupedRows(indices, columns, data, shape, where, budget)

    def read(self, start: int, stop: int) -> CellBlock:
        """Rows ``start`` to ``stop``."""
        return self._rows.read(start, stop)

    def weight(self, n_rows: int, widest: int) -> int:
        """Most bytes that come up while rows are read; see `scgpt_infer.readers.room.Weighed`."""
        return self._rows.weight(n_rows, widest)

    def close(self) -> None:
        """Remove temporary files."""
        self._rows.close()


class _Columns:
    """The column of each entry, told by an indptr.

    Parameters
    ----------
    indptr
        First entry of each column, and the end.
    """

    def __init__(self, indptr: NDArray[np.int64]) -> None:
        self.shape, self.dtype = (int(indptr[-1]),), np.dtype(np.int32)
        self._indptr = indptr

    def __getitem__(self, where: slice, /) -> NDArray[Any]:
        low, high, _ = where.indices(self.shape[0])
        bounds = np.clip(self._indptr, low, high)
        return np.repeat(np.arange(len(bounds) - 1, dtype=np.int32), np.diff(bounds))
