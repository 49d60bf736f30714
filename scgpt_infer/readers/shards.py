"""Slices of a sharded zarr vector: the chunks that a slice needs, read from their shard in one piece.

zarr asks for each chunk of a shard by itself, which costs more than to inflate it. Here the index of a shard is read
once and its chunks together. An array that is stored in another way is left to zarr, and so is every shard that does
not come out as it should: what zarr can read is read, and its errors are the errors.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.machine import cores

__all__ = ["Shards", "shards_of"]

MISSING = np.uint64(2**64 - 1)
CHECKSUM_BYTES = 4
# Bytes between the chunks of a slice that are worth reading with them.
SPARE = 2
# A further thread is not worth its start for less.
THREAD_BYTES = 1 << 20
COMPRESSORS = ("blosc", "gzip", "zstd")


def shards_of(array: Any) -> "Shards | None":
    """The vector behind a reader of its shards; None where it is not stored that way.

    That way: in a folder; zarr 3 with one level of shards; little-endian real numbers; compressed by zstd, blosc or
    gzip, which tell a damaged chunk.

    Parameters
    ----------
    array
        zarr's own.
    """
    folder = getattr(array.store, "root", None)
    if not isinstance(folder, Path) or len(array.shape) != 1 or array.dtype.kind not in "biuf":
        return None
    told = array.metadata.to_dict()
    codecs = told.get("codecs", ())
    if told.get("zarr_format") != 3 or [codec["name"] for codec in codecs] != ["sharding_indexed"]:
        return None
    sharding = codecs[0]["configuration"]
    inside, index = ([codec["name"] for codec in sharding[name]] for name in ("codecs", "index_codecs"))
    endian = sharding["codecs"][0].get("configuration", {}).get("endian", "little")
    if inside not in [["bytes", name] for name in COMPRESSORS] or endian != "little":
        return None
    if index not in (["bytes"], ["bytes", "crc32c"]):
        return None
    return Shards(array, folder / array.path, _decoder(inside[1]), sharding["index_location"] == "end", len(index) == 2)


def _decoder(name: str) -> Callable[[bytes], Any]:
    import numcodecs  # zarr brings it

    decode: Callable[[bytes], Any] = numcodecs.get_codec({"id": name}).decode
    return decode


class Shards:
    """Gives slices that begin at a chunk, and end at one or at the end.

    Parameters
    ----------
    array
        zarr's own.
    folder
        Where its shards lie.
    decode
        Inflates a chunk.
    index_last
        Whether the index of a shard stands at its end.
    has_checksum
        Whether a checksum follows the index.
    """

    def __init__(
        self, array: Any, folder: Path, decode: Callable[[bytes], Any], index_last: bool, has_checksum: bool
    ) -> None:
        self._array, self._folder, self._decode = array, folder, decode
        self._chunk, self._shard = int(array.chunks[0]), int(array.shards[0])
        self._index_last, self._index_bytes = index_last, 16 * (self._shard // self._chunk)
        self._tail, self._threads = CHECKSUM_BYTES * has_checksum, cores().usable
        self._index: tuple[int, NDArray[np.uint64]] | None = None  # of the last shard that was read

    def __getitem__(self, where: slice, /) -> NDArray[Any]:
        out = np.empty(where.stop - where.start, self._array.dtype)
        for number in range(where.start // self._shard, -(-where.stop // self._shard)):
            low, high = max(where.start, number * self._shard), min(where.stop, (number + 1) * self._shard)
            part = out[low - where.start : high - where.start]
            try:
                self._fill(part, number, (low - number * self._shard) // self._chunk)
            except Exception:  # whatever is wrong with it, zarr finds it too, or finds it right
                part[:] = self._array[low:high]
        return out

    def _fill(self, out: NDArray[Any], number: int, first: int) -> None:
        """Values of a shard from a chunk on."""
        handle = os.open(self._folder / self._array.metadata.encode_chunk_key((number,)), os.O_RDONLY)
        try:
            found = self._places(handle, number)[first : first + -(-len(out) // self._chunk)]
            chunks = _read(handle, found)
        finally:
            os.close(handle)
        n = max(1, min(self._threads, len(chunks), out.nbytes // THREAD_BYTES))
        if n == 1:
            return self._inflate(out, chunks)
        cuts = [len(chunks) * k // n for k in range(n + 1)]
        runs = [(out[low * self._chunk : high * self._chunk], chunks[low:high]) for low, high in pairwise(cuts)]
        with ThreadPoolExecutor(n) as pool:
            for done in [pool.submit(self._inflate, *run) for run in runs]:
                done.result()
        return None

    def _inflate(self, out: NDArray[Any], chunks: list[bytes]) -> None:
        """Chunks to where their values belong; the last may hold more than there are."""
        for place, chunk in enumerate(chunks):
            values = np.frombuffer(self._decode(chunk), out.dtype)
            if len(values) != self._chunk:
                raise ValueError(f"a chunk of {len(values)} values")
            start = place * self._chunk
            out[start : start + self._chunk] = values[: len(out) - start]

    def _places(self, handle: int, number: int) -> NDArray[np.uint64]:
        """(n_chunks, 2) first byte and length of each chunk of a shard."""
        if self._index is None or self._index[0] != number:
            start = os.fstat(handle).st_size - self._tail - self._index_bytes if self._index_last else 0
            index = np.frombuffer(os.pread(handle, self._index_bytes, start), "<u8").reshape(-1, 2)
            self._index = (number, index)
        return self._index[1]


def _read(handle: int, places: NDArray[np.uint64]) -> list[bytes]:
    """Chunks as they are stored; one is missing: ValueError."""
    if np.any(places == MISSING):
        raise ValueError("a chunk is missing")
    starts, lengths = places[:, 0].astype(np.int64), places[:, 1].astype(np.int64)
    low, high = int(starts.min()), int((starts + lengths).max())
    if high - low > SPARE * int(lengths.sum()):
        return [os.pread(handle, n, start) for start, n in zip(starts.tolist(), lengths.tolist(), strict=True)]
    whole = os.pread(handle, high - low, low)
    return [whole[start : start + n] for start, n in zip((starts - low).tolist(), lengths.tolist(), strict=True)]
