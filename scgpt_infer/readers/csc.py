"""Row ranges of a CSC matrix, which is stored by genes: the entries must be regrouped by cells once.

Up to a budget this is done in memory. Above it the entries are distributed in one pass to a
temporary file, each to the bucket of neighbouring rows it belongs to, a bucket at most the
budget in size; reading loads one bucket at a time. So memory is bounded by about twice the budget, the
matrix is read twice, and the temporary file takes 12 bytes a value in the folder TMPDIR names.
"""

import shutil
import tempfile
from typing import IO

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from scgpt_infer.readers.damage import reading
from scgpt_infer.readers.matrix import Sliceable, check_compressed, narrow, to_float32
from scgpt_infer.sizes import size
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import CellsError

__all__ = ["CscRows"]

# What the values and indices of one bucket may take, 8 bytes an entry.
BUDGET_BYTES = 512 << 20
ENTRY_BYTES = 8
# Entries that are read from the matrix at once.
SLAB_ENTRIES = 1 << 22
ENTRY = np.dtype([("row", "<i4"), ("column", "<i4"), ("value", "<f4")])


class CscRows:
    """Rows of a CSC matrix.

    A row index outside the matrix belongs to no cell that could be marked bad, so it ends the reading.

    Parameters
    ----------
    indptr, indices, data
        The three arrays.
    shape
        Cells and genes.
    where
        Name of the matrix in messages.
    budget
        Bytes that a bucket may take.

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
        budget: int = BUDGET_BYTES,
    ) -> None:
        check_compressed(indptr, indices, data, shape[1], where)
        self.shape = shape
        self._indices, self._data = indices, data
        with reading(f"indptr of {where}"):
            self._indptr = np.asarray(indptr[:]).astype(np.int64)  # one entry a gene: small
        self._where = where
        self._capacity = max(1, budget // ENTRY_BYTES)
        self._starts = np.zeros(1, np.int64)  # first row of each bucket, and the end
        self._offsets = np.zeros(1, np.int64)  # first entry of each bucket, and the end
        self._file: IO[bytes] | None = None
        self._loaded: tuple[int, CellBlock] | None = None

    def read(self, start: int, stop: int) -> CellBlock:
        """Rows ``start`` to ``stop``."""
        if len(self._starts) == 1:
            self._distribute()
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        parts = []
        for bucket in range(first, len(self._starts) - 1):
            low, high = int(self._starts[bucket]), int(self._starts[bucket + 1])
            if low >= stop:
                break
            parts.append(_cut(self._load(bucket), max(start, low), min(stop, high)))
        counts = np.concatenate([np.zeros(1, np.int64), *(np.diff(part.indptr) for part in parts)])
        indices = np.concatenate([np.empty(0, np.int32), *(part.indices for part in parts)])
        data = np.concatenate([np.empty(0, np.float32), *(part.data for part in parts)])
        return CellBlock(np.cumsum(counts), indices, data, start)

    def close(self) -> None:
        """Remove the temporary file and free the loaded bucket."""
        self._loaded = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def _load(self, bucket: int) -> CellBlock:
        if self._loaded is not None and self._loaded[0] == bucket:
            return self._loaded[1]
        self._loaded = None  # before the next one is made: never two in memory
        first_row, n_rows = int(self._starts[bucket]), int(self._starts[bucket + 1] - self._starts[bucket])
        if self._file is None:
            rows, values = self._slab(0, int(self._indptr[-1]))
            indptr = self._indptr
        else:
            entries = self._entries(bucket)
            rows, values = entries["row"] - np.int32(first_row), np.ascontiguousarray(entries["value"])
            per_gene = np.bincount(entries["column"], minlength=self.shape[1])
            indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(per_gene)])
        # scipy keeps duplicates, and the order of the genes within a row, in this conversion.
        csr = sparse.csc_matrix((values, rows, indptr), shape=(n_rows, self.shape[1])).tocsr()
        block = CellBlock(csr.indptr.astype(np.int64), csr.indices.astype(np.int32), csr.data, first_row)
        self._loaded = (bucket, block)
        return block

    def _entries(self, bucket: int) -> NDArray[np.void]:
        if self._file is None:
            raise ValueError("no temporary file")
        self._file.seek(int(self._offsets[bucket]) * ENTRY.itemsize)
        n_entries = int(self._offsets[bucket + 1] - self._offsets[bucket])
        return np.frombuffer(self._file.read(n_entries * ENTRY.itemsize), ENTRY)

    def _slab(self, low: int, high: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        with reading(f"Entries {low:,} to {high - 1:,} of {self._where}"):
            rows = narrow(np.asarray(self._indices[low:high]))
            values = to_float32(np.asarray(self._data[low:high]))
        if len(rows) and (rows.min() < 0 or rows.max() >= self.shape[0]):
            raise CellsError(
                f"{self._where} is stored by genes (CSC) and has a row index outside its {self.shape[0]:,} cells. "
                "The file was written by a faulty program: write it again from the original data."
            )
        return rows, values

    def _distribute(self) -> None:
        """Set the buckets, and fill the temporary file where there is more than one."""
        n_rows, n_entries = self.shape[0], int(self._indptr[-1])
        if n_entries <= self._capacity:
            self._starts, self._offsets = np.array([0, n_rows]), np.array([0, n_entries])
            return
        starts, offsets = self._buckets()
        file = _temporary_file(n_entries * ENTRY.itemsize, self._where)
        try:
            self._fill(file, starts, offsets)
        except OSError as error:
            file.close()
            raise CellsError(
                f"The temporary file for {self._where}, which is stored by genes (CSC), cannot be written: {error}. "
                "Free space there, set TMPDIR to another folder, or store the matrix as CSR."
            ) from error
        except BaseException:
            file.close()
            raise
        self._starts, self._offsets, self._file = starts, offsets, file

    def _buckets(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        n_rows, n_entries = self.shape[0], int(self._indptr[-1])
        ends = np.zeros(n_rows + 1, np.int64)  # entries before each row
        for low in range(0, n_entries, SLAB_ENTRIES):
            rows, _ = self._slab(low, min(n_entries, low + SLAB_ENTRIES))
            ends[1:] += np.bincount(rows, minlength=n_rows)
        np.cumsum(ends, out=ends)
        starts = [0]
        while starts[-1] < n_rows:
            fitting = int(np.searchsorted(ends, ends[starts[-1]] + self._capacity, side="right")) - 1
            starts.append(max(fitting, starts[-1] + 1))
        return np.array(starts, np.int64), ends[starts]

    def _fill(self, file: IO[bytes], starts: NDArray[np.int64], offsets: NDArray[np.int64]) -> None:
        written = offsets.copy()
        n_entries = int(self._indptr[-1])
        for low in range(0, n_entries, SLAB_ENTRIES):
            high = min(n_entries, low + SLAB_ENTRIES)
            rows, values = self._slab(low, high)
            entries = np.empty(high - low, ENTRY)
            entries["row"], entries["value"] = rows, values
            entries["column"] = np.searchsorted(self._indptr, np.arange(low, high), side="right") - 1
            buckets = np.searchsorted(starts, rows, side="right") - 1
            entries = entries[np.argsort(buckets, kind="stable")]
            bounds = np.concatenate([[0], np.cumsum(np.bincount(buckets, minlength=len(starts) - 1))])
            for bucket in np.flatnonzero(np.diff(bounds)):
                part = entries[bounds[bucket] : bounds[bucket + 1]]
                file.seek(int(written[bucket]) * ENTRY.itemsize)
                file.write(part.tobytes())
                written[bucket] += len(part)
        file.flush()


def _cut(block: CellBlock, start: int, stop: int) -> CellBlock:
    bounds = block.indptr[start - block.first_row : stop - block.first_row + 1]
    first, last = bounds[0], bounds[-1]
    return CellBlock(bounds - first, block.indices[first:last], block.data[first:last], start)


def _temporary_file(n_bytes: int, where: str) -> IO[bytes]:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise CellsError(
            f"{where} is stored by genes (CSC) and too large to regroup in memory; the temporary file needs "
            f"{size(n_bytes)} and {folder} has {size(free)} free. "
            "Free space there, set TMPDIR to another folder, or store the matrix as CSR."
        )
    return tempfile.TemporaryFile(dir=folder)
