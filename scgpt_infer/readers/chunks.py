"""Slices of a gzip-compressed HDF5 dataset, its chunks inflated by several threads.

HDF5 inflates one chunk at a time under a lock that all of h5py shares. Here h5py only hands out the stored bytes of a
chunk; the rest happens outside of the lock and of the GIL. A dataset that is stored in another way is left to h5py, and
so is every chunk that does not come out as it should: what h5py can read is read, and its errors are the errors.
"""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product
from typing import Any

import h5py
import numpy as np
from deflate import DeflateError, zlib_decompress
from numpy.typing import NDArray

from scgpt_infer.readers.room import ROOM, ReadingRoom

__all__ = ["Inflated", "inflated"]

# A further thread is not worth its start for less.
THREAD_BYTES = 512 << 10

Start = tuple[int, ...]  # where a chunk begins, which is what HDF5 knows it by


def inflated(dataset: h5py.Dataset, threads: int, room: ReadingRoom = ROOM) -> "h5py.Dataset | Inflated":
    """The dataset behind threads that inflate its chunks; the dataset itself where it is not stored that way.

    That way: chunks of up to ``kept_bytes`` of the room, those of a matrix that stand side by side taken together;
    the filters deflate, or shuffle and deflate; real numbers or booleans of a type that numpy has. Not so: any other
    filter, virtual, external, compact or contiguous storage.

    Parameters
    ----------
    dataset
        An open dataset; it stays the caller's.
    threads
        Threads to inflate with, at most.
    room
        Memory that it may take.
    """
    plist = dataset.id.get_create_plist()
    if plist.get_layout() != h5py.h5d.CHUNKED or dataset.dtype.kind not in "biuf":
        return dataset
    filters = [plist.get_filter(i) for i in range(plist.get_nfilters())]
    shuffles = len(filters) == 2 and filters[0][0] == h5py.h5z.FILTER_SHUFFLE
    if len(filters) != 1 + shuffles or filters[-1][0] != h5py.h5z.FILTER_DEFLATE:
        return dataset
    itemsize = dataset.dtype.itemsize
    if shuffles and tuple(filters[0][2]) != (itemsize,):
        return dataset
    width = [-(-n // step) * step for n, step in zip(dataset.shape[1:], dataset.chunks[1:], strict=True)]
    # Such a band is kept from one slice for the next.
    if int(dataset.chunks[0]) * int(np.prod(width)) * itemsize > room.kept_bytes:
        return dataset
    # Only then are the bytes in the file those of the numpy array.
    if dataset.id.get_type() != h5py.h5t.py_create(dataset.dtype, logical=True):
        return dataset
    return Inflated(dataset, shuffles, threads, room.work_bytes)


class Inflated:
    """A dataset that gives slices of its first axis; everything else that is asked of it, h5py answers.

    The chunks that begin at one place of the first axis are a band of them: one chunk of a vector, and of a matrix as
    many as stand side by side.

    Parameters
    ----------
    dataset
        Chunked, of the filters deflate, or shuffle and deflate.
    shuffles
        Whether shuffle comes before deflate.
    threads
        Threads to inflate with, at most.
    work_bytes
        Chunks that are in work at once.
    """

    def __init__(self, dataset: h5py.Dataset, shuffles: bool, threads: int, work_bytes: int = ROOM.work_bytes) -> None:
        self.shape: tuple[int, ...] = dataset.shape
        self.dtype: np.dtype[Any] = dataset.dtype
        self.chunks: tuple[int, ...] = dataset.chunks
        self._dataset, self._shuffles, self._threads, self._work_bytes = dataset, shuffles, threads, work_bytes
        self._bytes = int(np.prod(self.chunks)) * self.dtype.itemsize
        self._beside = [range(0, n, step) for n, step in zip(self.shape[1:], self.chunks[1:], strict=True)]
        self._kept: tuple[int, NDArray[Any]] | None = None  # begin and chunks of the last band that was read

    def __getitem__(self, where: Any, /) -> Any:
        if not isinstance(where, slice) or where.step not in (None, 1) or 0 in self.shape:
            return self._dataset[where]
        low, high, _ = where.indices(self.shape[0])
        if high <= low:
            return np.empty((0, *self.shape[1:]), self.dtype)
        bands = range(low // self.chunks[0] * self.chunks[0], high, self.chunks[0])
        rows = self._joined(self._read(bands), len(bands))
        return rows[low - bands[0] : high - bands[0], *(slice(n) for n in self.shape[1:])]

    def beside(self, n_bytes: int) -> int:
        """Most bytes that come up beside a slice of so many while it is read."""
        band = self._bytes * int(np.prod([len(starts) for starts in self._beside]))
        whole = n_bytes + 2 * band  # a slice begins and ends in the middle of bands
        joined = whole if len(self.chunks) > 1 else 0
        # Of the chunks in work there are the stored bytes and, of shuffled ones, the planes; the last band is kept.
        in_work = min(self._work_bytes, whole) * (2 if self._shuffles else 1)
        return int(4 * band + joined + in_work)

    def _joined(self, chunks: NDArray[Any], n_bands: int) -> NDArray[Any]:
        """Chunks put side by side; a view where they are those of a vector."""
        n_axes = len(self.chunks)
        grid = chunks.reshape(n_bands, *(len(starts) for starts in self._beside), *self.chunks)
        order = [axis for pair in zip(range(n_axes), range(n_axes, 2 * n_axes), strict=True) for axis in pair]
        return grid.transpose(order).reshape(
            [n * step for n, step in zip(grid.shape[:n_axes], self.chunks, strict=True)]
        )

    def _read(self, bands: range) -> NDArray[Any]:
        """All chunks of bands, (n_chunks, *chunks); at the edge of the dataset they hold more than it does."""
        starts = list(product(bands, *self._beside))
        out = np.empty((len(starts), *self.chunks), self.dtype)
        in_band = len(starts) // len(bands)
        known, kept, at_once = 0, self._kept, max(1, self._work_bytes // self._bytes)
        if kept is not None and kept[0] == bands[0]:
            known = in_band
            out[:known] = kept[1]
        for low in range(known, len(starts), at_once):
            self._fill(out[low : low + at_once], starts[low : low + at_once])
        # The next slice begins where this one ends, mostly in the middle of a band.
        self._kept = (bands[-1], out[-in_band:].copy())
        return out

    def _fill(self, out: NDArray[Any], starts: list[Start]) -> None:
        """Inflate chunks to their places, a run of them a thread, the first in the caller's."""
        n = max(1, min(self._threads, len(starts), out.nbytes // THREAD_BYTES))
        runs = [slice(a, b) for a, b in pairwise(len(starts) * k // n for k in range(n + 1))]
        # All is read before any is inflated: threads that take turns at h5py's lock wait more than they work.
        first, *others = [(out[run], starts[run], [self._stored(start) for start in starts[run]]) for run in runs]
        if not others:
            return self._inflate(*first)
        with ThreadPoolExecutor(len(others)) as pool:
            work = [pool.submit(self._inflate, *run) for run in others]
            self._inflate(*first)
            for run in work:
                run.result()
        return None

    def _stored(self, start: Start) -> bytes:
        """A chunk as it stands in the file; nothing if it is not there, or went without one of the filters."""
        try:
            mask, stored = self._dataset.id.read_direct_chunk(start)
        except (OSError, RuntimeError, ValueError):
            return b""
        return b"" if mask else bytes(stored)

    def _inflate(self, out: NDArray[Any], starts: list[Start], stored: list[bytes]) -> None:
        """Inflate a run of chunks; h5py reads those that do not come out whole."""
        size, itemsize = self._bytes, self.dtype.itemsize
        flat = out.reshape(-1).view(np.uint8)
        planes = np.empty_like(flat) if self._shuffles else flat
        room = planes.data  # numpy would let go of the GIL for each of these short copies, and wait for it
        left = []
        for i, chunk in enumerate(stored):
            try:
                room[i * size : (i + 1) * size] = zlib_decompress(chunk, size)
            except (DeflateError, ValueError):  # ValueError: of another size
                left.append(i)
        if self._shuffles:  # all first bytes of a chunk's values, then all second bytes, ...
            values, sources = flat.reshape(len(starts), -1, itemsize), planes.reshape(len(starts), itemsize, -1)
            for k in range(itemsize):  # 2.5 times as fast as one transposed copy
                values[:, :, k] = sources[:, k, :]
        for i in left:
            place = [slice(at, at + step) for at, step in zip(starts[i], self.chunks, strict=True)]
            inside = self._dataset[tuple(place)]
            out[i][tuple(slice(n) for n in inside.shape)] = inside
