"""The first rows of a matrix in an HDF5 file, copied by slices: `copy_rows`, for dense, CSR and CSC ones.

What is copied keeps its type and compression; no more than a slice of it is in memory, and of a sparse matrix indptr.
"""

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

__all__ = ["copy_rows", "is_rows"]

_SLICE_BYTES = 32 << 20
_CHUNK = 65_536


def is_rows(element: Any) -> bool:
    """Whether it is a matrix that can be copied so."""
    return isinstance(element, h5py.Dataset) or element.attrs.get("encoding-type", "") in ("csr_matrix", "csc_matrix")


def copy_rows(old: Any, parent: Any, name: str, n_rows: int) -> None:
    """Copy the first rows of a matrix into a group.

    Parameters
    ----------
    old
        Dataset, or group of a sparse matrix.
    parent, name
        Where the copy shall be.
    n_rows
        How many; not more than there are.
    """
    if isinstance(old, h5py.Dataset):
        new = _like(old, parent, name, (n_rows, *old.shape[1:]))
        _copy_slices(old, new, n_rows)
        return
    group = parent.create_group(name)
    for key, value in old.attrs.items():
        group.attrs[key] = value
    group.attrs["shape"] = np.array([n_rows, old.attrs["shape"][1]], np.asarray(old.attrs["shape"]).dtype)
    if old.attrs["encoding-type"] == "csr_matrix":
        n_values = int(old["indptr"][n_rows])
        for key, size in (("indptr", n_rows + 1), ("indices", n_values), ("data", n_values)):
            _copy_slices(old[key], _like(old[key], group, key, (size,)), size)
    else:
        _copy_columns(old, group, n_rows)


def _copy_columns(old: Any, group: Any, n_rows: int) -> None:
    """Of a CSC matrix, the values of the first rows: they lie anywhere."""
    before = old["indptr"][:]
    after: NDArray[Any] = np.zeros_like(before)
    indices, data = (_like(old[key], group, key, (0,), grows=True) for key in ("indices", "data"))
    n_values, done, step = int(before[-1]), 0, _SLICE_BYTES // 16
    for start in range(0, n_values, step):
        stop = min(start + step, n_values)
        rows = old["indices"][start:stop]
        kept = rows < n_rows
        places = np.searchsorted(before, [start, stop])  # columns that begin in this slice
        until = np.concatenate([[0], np.cumsum(kept)])
        after[places[0] : places[1]] = done + until[before[places[0] : places[1]] - start]
        n_kept = int(until[-1])
        for new, values in ((indices, rows), (data, old["data"][start:stop])):
            new.resize((done + n_kept,))
            new[done:] = values[kept]
        done += n_kept
    after[np.searchsorted(before, n_values) :] = done
    _like(old["indptr"], group, "indptr", before.shape)[:] = after


def _like(old: Any, parent: Any, name: str, shape: tuple[int, ...], grows: bool = False) -> Any:
    """A new dataset with the type and compression of another."""
    chunks = old.chunks or ((_CHUNK,) if grows else None)
    if not grows and 0 in shape:
        chunks = None
    elif chunks is not None and not grows:
        chunks = tuple(min(chunk, size) for chunk, size in zip(chunks, shape, strict=True))
    packed = {"compression": old.compression, "compression_opts": old.compression_opts, "shuffle": old.shuffle}
    most = {"maxshape": (None,) * len(shape)} if grows else {}
    known = old.compression in (None, "gzip", "lzf") and chunks is not None
    new = parent.create_dataset(name, shape, old.dtype, chunks=chunks, **(packed if known else {}), **most)
    for key, value in old.attrs.items():
        new.attrs[key] = value
    return new


def _copy_slices(old: Any, new: Any, n_rows: int) -> None:
    row = max(1, int(np.prod(old.shape[1:])) * old.dtype.itemsize)
    whole = old.chunks[0] if old.chunks else 1
    step = max(1, _SLICE_BYTES // row // whole) * whole
    for start in range(0, n_rows, step):
        rows = slice(start, min(start + step, n_rows))
        new[rows] = old[rows]
