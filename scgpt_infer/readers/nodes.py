"""Groups and arrays of a store, HDF5 or zarr: what is asked of h5py's is asked of these in the same words.

zarr's own objects come in and `ZarrGroup` and `ZarrArray` go out. Only slices of the first axis are read, by whole
chunks, of which the last is kept for the slice that begins where this one ends.
"""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers.shards import shards_of

__all__ = ["Group", "ZarrArray", "ZarrGroup", "is_array"]

# Values and row numbers of a sparse matrix, and names, are not all zero or empty over so many; zarr reads a chunk that
# is not there as such, and a store is thousands of files, of which some may not have been copied.
SUSPICIOUS = 100


def is_array(node: object) -> bool:
    """Whether a node of a store is an array, no group."""
    return hasattr(node, "dtype")


class ZarrArray:
    """An array of a zarr store.

    Parameters
    ----------
    array
        zarr's own.
    is_full
        Whether a chunk of nothing but zeros or empty texts can only be one that is missing.
    """

    def __init__(self, array: Any, is_full: bool) -> None:
        if any(getattr(codec, "codec_id", "") == "pickle" for codec in (*array.filters, *array.compressors)):
            raise ValueError(f"{array.name} is pickled, and to unpickle it may run any code")
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.dtype: np.dtype[Any] = array.dtype
        self.chunks: tuple[int, ...] = tuple(array.chunks)
        self.attrs: Mapping[str, Any] = array.attrs.asdict()
        self._array, self._is_full = array, is_full
        self._shards = shards_of(array)
        self._kept: tuple[int, NDArray[Any]] | None = None  # first row of a band of chunks, and the band

    def __getitem__(self, where: Any, /) -> Any:
        if not isinstance(where, slice) or where.step not in (None, 1) or 0 in self.shape:
            return self._array[where]
        low, high, _ = where.indices(self.shape[0])
        if high <= low:
            return np.empty((0, *self.shape[1:]), self.dtype)
        parts = []
        if self._kept is not None:
            start, band = self._kept
            if start <= low < start + len(band):
                parts.append(band[low - start : high - start])
                low = start + len(band)
        if low < high:
            parts.append(self._read(low, high))
        return np.concatenate(parts)

    def beside(self, n_bytes: int) -> int:
        """Most bytes that come up beside a slice of so many while it is read."""
        band = self.chunks[0] * int(np.prod(self.shape[1:])) * self.dtype.itemsize
        # Whole bands are read, one is kept and one was, and zarr holds a few chunks as they are stored.
        return n_bytes + 2 * band + 4 * band

    def _read(self, low: int, high: int) -> NDArray[Any]:
        step = self.chunks[0]
        first, last = low // step * step, (high - 1) // step * step
        stored = self._array if self._shards is None else self._shards
        rows: NDArray[Any] = np.asarray(stored[first : min(last + step, self.shape[0])])
        if self._is_full:
            self._check_there(rows)
        self._kept = (last, rows[last - first :].copy() if last > first else rows)
        return rows[low - first : high - first]

    def _check_there(self, rows: NDArray[Any]) -> None:
        nothing = np.zeros((), rows.dtype)
        for start in range(0, len(rows), self.chunks[0]):
            chunk = rows[start : start + self.chunks[0]]
            if len(chunk) < SUSPICIOUS or chunk[0] != nothing or np.any(chunk != nothing):
                continue
            if self._array.nchunks_initialized < self._array.nchunks:
                raise OSError(f"a chunk of {self._array.name} is not in the store")


class ZarrGroup:
    """A group of a zarr store.

    Parameters
    ----------
    group
        zarr's own.

    Attributes
    ----------
    attrs
        What it says of itself.
    node
        zarr's own.
    """

    def __init__(self, group: Any) -> None:
        self.attrs: Mapping[str, Any] = group.attrs.asdict()
        self.node = group
        self._children: dict[str, ZarrArray | ZarrGroup] = {}  # arrays stay open for what they keep

    def __getitem__(self, path: str) -> Any:
        name, _, rest = path.partition("/")
        if name not in self._children:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of extensions that zarr may drop one day: it can read them now
                node = self.node[name]
            self._children[name] = ZarrArray(node, self._is_full(name)) if is_array(node) else ZarrGroup(node)
        child = self._children[name]
        if rest and isinstance(child, ZarrArray):
            raise KeyError(path)
        return child[rest] if rest else child

    def __contains__(self, path: object) -> bool:
        return self.get(str(path)) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def get(self, path: str, default: Any = None) -> Any:
        """A member, or the default where there is none."""
        try:
            return self[path]
        except KeyError:
            return default

    def keys(self) -> list[str]:
        """Names of the members."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that are no part of the store, such as .DS_Store
            return sorted(self.node.keys())

    def _is_full(self, name: str) -> bool:
        if str(self.attrs.get("encoding-type", "")) in ("csr_matrix", "csc_matrix"):
            return name in ("data", "indices")
        return bool(name == self.attrs.get("_index"))


Group = h5py.Group | ZarrGroup
