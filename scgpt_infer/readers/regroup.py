"""Row ranges of a matrix whose entries do not come by rows: they are regrouped once.

Up to a budget this is done in memory. Above it the entries are distributed in one pass to a
temporary file, each to the bucket of neighbouring rows it belongs to, a bucket at most the
budget in size; reading loads one bucket at a time. So memory is bounded by about three times the budget, the
entries are read twice, and the temporary file takes 12 bytes a value in the folder TMPDIR names.
"""

import tempfile
from collections.abc import Iterator
from typing import IO

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from scgpt_infer.readers.damage import reading
from scgpt_infer.readers.matrix import Sliceable, narrow, to_float32
from scgpt_infer.readers.room import ROOM
from scgpt_infer.readers.spool import check_room, no_room
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import CellsError

__all__ = ["RegroupedRows"]

# The value and the index of an entry.
ENTRY_BYTES = 8
# What an entry takes at most while it is sorted by rows.
SORTED_BYTES = 3 * ENTRY_BYTES
# Entries that are read from the matrix at once, at most: each takes up to 60 bytes on its way to its bucket.
SLAB_ENTRIES = 1 << 22
LEAST_ENTRIES = 1 << 16
ENTRY = np.dtype([("row", "<i4"), ("column", "<i4"), ("value", "<f4")])


class RegroupedRows:
    """Rows of entries in any order; those of one row stay in the order they come in, duplicates among them.

    A row index outside the matrix belongs to no cell that could be marked bad, so it ends the reading.

    Parameters
    ----------
    rows, columns, values
        (n_entries,) where each entry stands, and what stands there.
    shape
        Cells and genes.
    where
        Name of the matrix in messages.
    budget
        What the values and indices of a bucket may take, in bytes.
    """

    def __init__(
        self,
        rows: Sliceable,
        columns: Sliceable,
        values: Sliceable,
        shape: tuple[int, int],
        where: str,
        budget: int = ROOM.bucket_bytes,
    ) -> None:
        self.shape = shape
        self._rows, self._columns, self._values = rows, columns, values
        self._n = int(values.shape[0])
        self._where = where
        self._capacity = max(1, budget // ENTRY_BYTES)
        self._slab_entries = min(SLAB_ENTRIES, max(LEAST_ENTRIES, self._capacity // 3))
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
        if len(parts) == 1:
            return parts[0]
        counts = np.concatenate([np.zeros(1, np.int64), *(np.diff(part.indptr) for part in parts)])
        indices = np.concatenate([np.empty(0, np.int32), *(part.indices for part in parts)])
        data = np.concatenate([np.empty(0, np.float32), *(part.data for part in parts)])
        return CellBlock(np.cumsum(counts), indices, data, start)

    def weight(self, n_rows: int, widest: int) -> int:
        """Most bytes that come up while rows are read; see `scgpt_infer.readers.room.Weighed`."""
        if len(self._starts) == 1:
            self._distribute()
        held = 0 if self._loaded is None else ENTRY_BYTES * len(self._loaded[1].data)
        bucket = int(np.diff(self._offsets).max(initial=0))
        return SORTED_BYTES * bucket - held + 2 * ENTRY_BYTES * n_rows * widest

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
        entries = self._all() if self._file is None else self._entries(bucket)
        self._loaded = (bucket, _by_rows(*entries, (n_rows, self.shape[1]), first_row))
        return self._loaded[1]

    def _entries(self, bucket: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
        """Rows from that of the bucket's first on, columns and values."""
        if self._file is None:
            raise ValueError("no temporary file")
        self._file.seek(int(self._offsets[bucket]) * ENTRY.itemsize)
        n_entries = int(self._offsets[bucket + 1] - self._offsets[bucket])
        stored = np.frombuffer(self._file.read(n_entries * ENTRY.itemsize), ENTRY)
        # Copies, so that what was read is free before it is sorted.
        return stored["row"] - np.int32(self._starts[bucket]), stored["column"].copy(), stored["value"].copy()

    def _all(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
        """Rows, columns and values of all entries; of wider types no more than a slab at once."""
        rows, columns, values = np.empty(self._n, np.int32), np.empty(self._n, np.int32), np.empty(self._n, np.float32)
        for low, high in self._slabs():
            rows[low:high], columns[low:high], values[low:high] = self._slab(low, high)
        return rows, columns, values

    def _slabs(self) -> Iterator[tuple[int, int]]:
        """First entry and end of each piece that is read at once."""
        for low in range(0, self._n, self._slab_entries):
            yield low, min(self._n, low + self._slab_entries)

    def _slab(self, low: int, high: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
        with reading(f"Entries {low:,} to {high - 1:,} of {self._where}"):
            rows, columns = (narrow(np.asarray(array[low:high])) for array in (self._rows, self._columns))
            values = to_float32(np.asarray(self._values[low:high]))
        if len(rows) and (rows.min() < 0 or rows.max() >= self.shape[0]):
            raise CellsError(
                f"{self._where} is stored by genes (CSC) and has a row index outside its {self.shape[0]:,} cells. "
                "The file was written by a faulty program: write it again from the original data."
            )
        return rows, columns, values

    def _distribute(self) -> None:
        """Set the buckets, and fill the temporary file where there is more than one."""
        if self._n <= self._capacity:
            self._starts, self._offsets = np.array([0, self.shape[0]]), np.array([0, self._n])
            return
        where = f"{self._where}, which is stored by genes and too large to regroup in memory,"
        starts, offsets = self._buckets()
        check_room(self._n * ENTRY.itemsize, where)
        file = None
        try:
            file = tempfile.TemporaryFile()  # noqa: SIM115, closed by close()
            self._fill(file, starts, offsets)
        except BaseException as error:
            if file is not None:
                file.close()
            if isinstance(error, OSError):
                raise no_room(where, error) from error
            raise
        self._starts, self._offsets, self._file = starts, offsets, file

    def _buckets(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        n_rows = self.shape[0]
        ends = np.zeros(n_rows + 1, np.int64)  # entries before each row
        for low, high in self._slabs():
            rows, _, _ = self._slab(low, high)
            ends[1:] += np.bincount(rows, minlength=n_rows)
        np.cumsum(ends, out=ends)
        starts = [0]
        while starts[-1] < n_rows:
            fitting = int(np.searchsorted(ends, ends[starts[-1]] + self._capacity, side="right")) - 1
            starts.append(max(fitting, starts[-1] + 1))
        return np.array(starts, np.int64), ends[starts]

    def _fill(self, file: IO[bytes], starts: NDArray[np.int64], offsets: NDArray[np.int64]) -> None:
        written = offsets.copy()
        for low, high in self._slabs():
            entries = np.empty(high - low, ENTRY)
            entries["row"], entries["column"], entries["value"] = self._slab(low, high)
            buckets = np.searchsorted(starts, entries["row"], side="right") - 1
            entries = entries[np.argsort(buckets, kind="stable")]
            bounds = np.concatenate([[0], np.cumsum(np.bincount(buckets, minlength=len(starts) - 1))])
            for bucket in np.flatnonzero(np.diff(bounds)):
                part = entries[bounds[bucket] : bounds[bucket + 1]]
                file.seek(int(written[bucket]) * ENTRY.itemsize)
                file.write(part.tobytes())
                written[bucket] += len(part)
        file.flush()


def _by_rows(
    rows: NDArray[np.int32],
    columns: NDArray[np.int32],
    values: NDArray[np.float32],
    shape: tuple[int, int],
    first_row: int,
) -> CellBlock:
    matrix = sparse.coo_matrix((values, (rows, columns)), shape=shape)
    matrix.has_canonical_format = True  # else scipy sums duplicates, in float32; their order it keeps
    csr = matrix.tocsr()
    return CellBlock(csr.indptr.astype(np.int64), csr.indices.astype(np.int32, copy=False), csr.data, first_row)


def _cut(block: CellBlock, start: int, stop: int) -> CellBlock:
    bounds = block.indptr[start - block.first_row : stop - block.first_row + 1]
    first, last = bounds[0], bounds[-1]
    # Copies: a view would keep the whole bucket while the next one is loaded.
    return CellBlock(bounds - first, block.indices[first:last].copy(), block.data[first:last].copy(), start)
