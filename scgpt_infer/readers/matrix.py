"""Row ranges of a stored matrix, as `CellBlock`: CSR and dense.

The arrays are HDF5 datasets or numpy arrays: only slices are taken of them, so both give the same
blocks and neither is read whole. What is in the rows (order, duplicates, explicit zeros, NaN)
passes through untouched: the tokenizer judges it.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers.damage import reading
from scgpt_infer.readers.room import ROOM, ReadingRoom
from scgpt_infer.readers.unchanged import Unchanged
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import CellsError

__all__ = [
    "CsrRows",
    "DenseRows",
    "Rows",
    "Sliceable",
    "blocks",
    "check_compressed",
    "narrow",
    "sample",
    "samples",
    "to_float32",
]

# What of a dense slab is looked at together: the places of its values take six times as much.
PIECE_BYTES = 1 << 18
# Values of indptr that are checked at once when a matrix is opened.
CHECK_ROWS = 1 << 20
# Neighbouring rows are read together for the sample: a chunk of a compressed file costs much more than a row of it.
SAMPLE_RUNS = 50
REPAIR = "The file was not written whole, or by a faulty program: write it again from the original data."


class Sliceable(Protocol):
    """An HDF5 dataset or a numpy array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        ...

    @property
    def dtype(self) -> Any:
        """Type of the values, as numpy names it."""
        ...

    def __getitem__(self, where: Any, /) -> Any: ...


class Rows(Protocol):
    """A matrix of cells by genes that gives row ranges."""

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        ...

    def read(self, start: int, stop: int) -> CellBlock:
        """Rows ``start`` to ``stop``."""
        ...

    def close(self) -> None:
        """Give back temporary files."""
        ...


class CsrRows:
    """Rows of a CSR matrix.

    Parameters
    ----------
    indptr, indices, data
        The three arrays; sliced, never read whole.
    shape
        Cells and genes.
    where
        Name of the matrix in messages.

    Raises
    ------
    CellsError
        If the arrays do not fit each other or the shape.
    """

    def __init__(
        self, indptr: Sliceable, indices: Sliceable, data: Sliceable, shape: tuple[int, int], where: str
    ) -> None:
        check_compressed(indptr, indices, data, shape[0], where)
        self.shape = shape
        self._indptr, self._indices, self._data = indptr, indices, data
        self._where = where

    def read(self, start: int, stop: int) -> CellBlock:
        """Rows ``start`` to ``stop``."""
        with reading(f"Rows {start:,} to {stop - 1:,} of {self._where}"):
            bounds = np.asarray(self._indptr[start : stop + 1]).astype(np.int64)
            _check_bounds(bounds, int(self._data.shape[0]), self._where)
            first, last = int(bounds[0]), int(bounds[-1])
            indices = narrow(_own(self._indices, first, last))
            data = to_float32(_own(self._data, first, last))
        return CellBlock(bounds - first, indices, data, start)

    def weight(self, n_rows: int, widest: int) -> int:
        """Most bytes that come up while rows are read; see `scgpt_infer.readers.room.Weighed`."""
        n_values = self._most(n_rows)
        most = 0
        for array, kept in ((self._indices, 0), (self._data, 4 * n_values)):
            stored = n_values * array.dtype.itemsize
            converted = 0 if array.dtype in (np.int32, np.float32) else 4 * n_values
            most = max(most, kept + stored + converted + beside(array, stored))
        return max(most, 8 * n_values)

    def _most(self, n_rows: int) -> int:
        """Values of the range of the grid that has most of them."""
        most, step = 0, max(1, CHECK_ROWS // n_rows) * n_rows
        for start in range(0, self.shape[0], step):
            bounds = np.asarray(self._indptr[start : min(self.shape[0], start + step) + 1])
            ends = np.append(bounds[:-1:n_rows], bounds[-1]).astype(np.int64)
            most = max(most, int(np.diff(ends).max(initial=0)))
        return most

    def close(self) -> None:
        """Nothing to give back."""


class DenseRows:
    """Rows of a dense matrix; zeros are left out.

    Parameters
    ----------
    array
        (n_cells, n_genes); sliced, never read whole.
    where
        Name of the matrix in messages.
    room
        Memory that reading may take.
    """

    def __init__(self, array: Sliceable, where: str, room: ReadingRoom = ROOM) -> None:
        check_numeric(array, where)
        if len(array.shape) != 2:
            raise CellsError(
                f"{where} has {len(array.shape)} dimensions, a matrix has 2 (cells, genes). Write it again as a matrix."
            )
        self.shape = (int(array.shape[0]), int(array.shape[1]))
        self._array, self._where = array, where
        chunks = getattr(array, "chunks", None) or (1,)
        fitting = room.slab_bytes // max(1, self.shape[1] * max(4, array.dtype.itemsize))
        # Slabs lower than a chunk would unpack the same chunk again and again.
        self._slab_rows = max(1, fitting, int(chunks[0]))

    def read(self, start: int, stop: int) -> CellBlock:
        """Rows ``start`` to ``stop``."""
        counts, indices, data = np.zeros(stop - start + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32)
        for low in range(start, stop, self._slab_rows):
            high = min(stop, low + self._slab_rows)
            with reading(f"Rows {low:,} to {high - 1:,} of {self._where}"):
                slab = to_float32(np.asarray(self._array[low:high]))  # (rows, n_genes), only looked at
            _append_used(slab, counts[low - start + 1 : high - start + 1], indices, data)
        return CellBlock(np.cumsum(counts), indices, data, start)

    def weight(self, n_rows: int, widest: int) -> int:
        """Most bytes that come up while rows are read; see `scgpt_infer.readers.room.Weighed`."""
        itemsize = int(self._array.dtype.itemsize)
        n_rows = min(n_rows, self.shape[0])
        slab = min(n_rows, self._slab_rows) * self.shape[1] * itemsize
        converted = 0 if self._array.dtype == np.float32 else slab * 4 // itemsize
        places = 6 * max(PIECE_BYTES, 4 * self.shape[1])
        return int(slab + converted + beside(self._array, slab) + 8 * n_rows * widest + places)

    def close(self) -> None:
        """Nothing to give back."""


def blocks(rows: Rows, spans: Iterable[range], same: Unchanged | None = None) -> Iterator[CellBlock]:
    """The rows of each span; those of a file that is not the same any more after they were read are not given."""
    for span in spans:
        block = rows.read(span.start, span.stop)
        if same is not None:
            same.check()
        yield block
        del block


def sample(rows: Rows, n: int = 1000) -> CellBlock:
    """About ``n`` rows in short runs spread evenly over the matrix, always the same; all rows where there are fewer.

    The block's ``first_row`` is 0 and says nothing of where its rows stand.
    """
    if rows.shape[0] <= n:
        return rows.read(0, rows.shape[0])
    parts = list(samples(rows, n))
    counts = np.concatenate([np.zeros(1, np.int64), *(np.diff(part.indptr) for part in parts)])
    return CellBlock(
        np.cumsum(counts),
        np.concatenate([part.indices for part in parts]),
        np.concatenate([part.data for part in parts]),
        first_row=0,
    )


def samples(rows: Rows, n: int = 1000) -> Iterator[CellBlock]:
    """The rows of `sample` run by run."""
    n_rows = rows.shape[0]
    run = n_rows if n_rows <= n else max(1, n // SAMPLE_RUNS)
    for start in np.linspace(0, n_rows - run, max(1, min(n, n_rows) // run)).astype(np.int64).tolist():
        yield rows.read(start, start + run)


def narrow(indices: NDArray[Any]) -> NDArray[np.int32]:
    """Indices as int32; what int32 cannot hold becomes -1, outside every matrix, and never wraps into it."""
    narrowed = indices.astype(np.int32, copy=False)
    if indices.dtype.itemsize >= 4 and indices.dtype != np.int32:
        narrowed[(indices > np.iinfo(np.int32).max) | (indices < 0)] = -1
    return narrowed


def to_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """Values as float32; beyond its range they become infinite, which makes their cell a bad one."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)


def _own(array: Sliceable, first: int, last: int) -> NDArray[Any]:
    """Part of an array, in memory that nothing else uses: what is read of a file is, a slice in memory is not."""
    part = np.asarray(array[first:last])
    return part.copy() if isinstance(array, np.ndarray) else part


def beside(array: Sliceable, n_bytes: int) -> int:
    """Most bytes that come up beside a slice of so many while it is read."""
    told = getattr(array, "beside", None)
    if told is not None:
        return int(told(n_bytes))
    chunks = getattr(array, "chunks", None)
    return 0 if chunks is None else 2 * int(np.prod(chunks)) * array.dtype.itemsize


def _append_used(
    slab: NDArray[np.float32], counts: NDArray[np.int64], indices: NDArray[np.int32], data: NDArray[np.float32]
) -> None:
    """Append the columns and values of a slab that are not zero, and set how many each row has."""
    end = len(data)
    for array in (indices, data):  # they grow where they lie: copies of a range of cells would be large
        array.resize(end + np.count_nonzero(slab), refcheck=False)
    step = max(1, PIECE_BYTES // max(1, slab.shape[1] * slab.itemsize))
    for low in range(0, len(slab), step):
        piece = slab[low : low + step]
        used = piece != 0  # NaN is not zero: it stays, for the tokenizer to find
        counts[low : low + step] = np.count_nonzero(used, axis=1)
        columns = np.nonzero(used)[1]
        indices[end : end + len(columns)] = columns
        data[end : end + len(columns)] = piece[used]
        end += len(columns)


def check_numeric(values: Sliceable, where: str) -> None:
    """Refuse values that are no real numbers."""
    if values.dtype.kind not in "biuf":
        raise CellsError(
            f"{where} holds values of type {values.dtype}; expected integers, floats or booleans. "
            "Write the file again with a numeric matrix."
        )


def check_compressed(indptr: Sliceable, indices: Sliceable, data: Sliceable, n_major: int, where: str) -> None:
    """Check that the three arrays of a sparse matrix fit each other.

    Parameters
    ----------
    n_major
        Rows of a CSR matrix, columns of a CSC one.

    Raises
    ------
    CellsError
        If they do not fit.
    """
    check_numeric(data, where)
    if indptr.dtype.kind not in "iu" or indices.dtype.kind not in "iu":
        raise CellsError(
            f"{where} has indptr of type {indptr.dtype} and indices of type {indices.dtype}; expected integers. "
            f"{REPAIR}"
        )
    if any(len(array.shape) != 1 for array in (indptr, indices, data)):
        raise CellsError(f"{where} has indptr, indices or data with more than one dimension. {REPAIR}")
    n_values = int(data.shape[0])
    if int(indices.shape[0]) != n_values:
        raise CellsError(f"{where} has {int(indices.shape[0]):,} indices for {n_values:,} values. {REPAIR}")
    if int(indptr.shape[0]) != n_major + 1:
        raise CellsError(f"{where} has {int(indptr.shape[0]):,} entries in indptr; expected {n_major + 1:,}. {REPAIR}")
    with reading(f"indptr of {where}"):
        first, last = int(indptr[0]), int(indptr[n_major])
        if first != 0 or last != n_values:
            raise CellsError(
                f"{where} has an indptr from {first:,} to {last:,}; expected 0 to {n_values:,}, the number of values. "
                f"{REPAIR}"
            )
        for start in range(0, n_major, CHECK_ROWS):
            _check_bounds(np.asarray(indptr[start : start + CHECK_ROWS + 1]).astype(np.int64), n_values, where)


def _check_bounds(bounds: NDArray[np.int64], n_values: int, where: str) -> None:
    if bounds[0] < 0 or bounds[-1] > n_values or np.any(bounds[1:] < bounds[:-1]):
        raise CellsError(
            f"{where} has an indptr that decreases or leaves the {n_values:,} values; expected one that never "
            f"decreases. {REPAIR}"
        )
