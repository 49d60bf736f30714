"""Arrays of an upload as HDF5 stores them: what is in this file, and unpacks to what it says it does.

Nothing is unpacked but chunks that could become so large that they would be felt, and those to no more than they
should be. Text is read whole, since one text may be pointed at by many.
"""

import math
import zlib
from pathlib import Path
from typing import Any

import h5py

from scgpt_infer.server.uploads.kinds import is_text, refused
from scgpt_infer.server.uploads.limits import Limits
from scgpt_infer.sizes import size
from scgpt_runtime.errors import CellsError

__all__ = ["Unpacked", "check_dataset"]

_LZF = 32_000  # h5py's own
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, _LZF}
_PLAIN = "Write the file again with anndata, compression='gzip'."
_DEFLATE_MOST = 1032  # to 1, by zlib's technical notes
_CHUNK_FELT = 256 << 20
_TEXTS_AT_ONCE, _TEXT_AT_ONCE = 4096, 4 << 20
_CHECKSUM, _GROWTH = 4, 4096


class Unpacked:
    """What all arrays of a file come to.

    Parameters
    ----------
    path, limits
        The file, and what it may be.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self.limits, self._path = limits, path
        stored = path.stat().st_size
        self._arrays, self._texts = limits.unpacked(stored), stored + limits.unpacked_floor

    def take(self, n_bytes: int, where: str) -> None:
        """Count an array's bytes, as they are in memory."""
        self._arrays -= n_bytes
        if self._arrays < 0:
            raise CellsError(
                f"{self._path} says that it unpacks to more than {size(self._most)}, with {size(n_bytes)} of them in "
                f"{where}; expected less of a file of its size. {_PLAIN}"
            )

    def take_text(self, n_bytes: int, where: str) -> None:
        """Count bytes of text, which HDF5 does not pack."""
        self._texts -= n_bytes
        if self._texts < 0:
            raise CellsError(f"{where} has more text than the file has bytes. {_PLAIN}")

    @property
    def _most(self) -> int:
        return self.limits.unpacked(self._path.stat().st_size)


def check_dataset(found: Any, where: str, unpacked: Unpacked) -> None:
    """Refuse an array that does not lie in this file, is packed in a foreign way, or is more than it seems.

    Parameters
    ----------
    found
        A ``DatasetID`` of h5py.
    where
        Its name in messages.
    unpacked
        Takes what it comes to.

    Raises
    ------
    CellsError
        As said.
    """
    stored = found.get_create_plist()
    if stored.get_layout() == h5py.h5d.VIRTUAL:
        raise CellsError(f"{where} is put together from other arrays (a virtual data set); expected its own. {_PLAIN}")
    if stored.get_external_count():
        raise CellsError(f"{where} keeps its values in another file (external storage); expected them in it. {_PLAIN}")
    if why := refused(found.get_type()):
        raise CellsError(f"{where} holds {why}; expected numbers or text. {_PLAIN}")
    filters = _filters(stored, where)
    space = found.get_space()
    shape = space.get_simple_extent_dims() if space.get_simple_extent_type() == h5py.h5s.SIMPLE else ()
    unpacked.take(math.prod(shape) * found.get_type().get_size(), where)
    if stored.get_layout() == h5py.h5d.CHUNKED:
        _check_chunks(found, stored, filters, where, unpacked.limits)
    if is_text(found.get_type()):
        _read_text(found, shape, where, unpacked)


def _filters(stored: Any, where: str) -> list[int]:
    filters = [stored.get_filter(i) for i in range(stored.get_nfilters())]
    for number, _, _, name in filters:
        if number not in _FILTERS:
            called = name.decode("utf-8", "replace") or "no name"
            raise CellsError(
                f"{where} is packed with the filter {number} ({called[:64]}); expected gzip or lzf. {_PLAIN}"
            )
    numbers = [int(one[0]) for one in filters]
    if len({*numbers}) != len(numbers):
        raise CellsError(f"{where} is packed twice with one filter. {_PLAIN}")
    return numbers


def _check_chunks(found: Any, stored: Any, filters: list[int], where: str, limits: Limits) -> None:
    n_bytes = math.prod(stored.get_chunk()) * found.get_type().get_size()
    if n_bytes > limits.chunk_bytes:
        raise CellsError(
            f"{where} has chunks of {size(n_bytes)}; expected at most {size(limits.chunk_bytes)}. {_PLAIN}"
        )
    suspects: list[Any] = []
    most = n_bytes + n_bytes // 8 + _GROWTH  # what cannot be packed grows a little

    def take(chunk: Any) -> bool | None:  # h5py stops at True
        if chunk.size * _DEFLATE_MOST > _CHUNK_FELT or chunk.size > most:
            suspects.append(chunk)
        return True if chunk.size > most else None

    found.chunk_iter(take)
    if suspects and suspects[-1].size > most:
        raise CellsError(f"{where} has a chunk of {size(suspects[-1].size)}, more than its values take. {_PLAIN}")
    if h5py.h5z.FILTER_DEFLATE in filters:
        at = filters.index(h5py.h5z.FILTER_DEFLATE)
        for chunk in suspects:
            if not chunk.filter_mask & (1 << at):
                _check_inflates(found, chunk, n_bytes + _CHECKSUM, where)


def _check_inflates(found: Any, chunk: Any, most: int, where: str) -> None:
    """Inflate a chunk up to what its values take: HDF5 would inflate it to the end, however far that is."""
    _, packed = found.read_direct_chunk(chunk.chunk_offset)
    inflate = zlib.decompressobj()
    try:
        length = len(inflate.decompress(packed, most + 1))
    except zlib.error as error:
        raise CellsError(f"{where} is damaged ({error}): copy or download the file again.") from error
    if length > most:
        raise CellsError(f"{where} has a chunk that unpacks to more than its values take. {_PLAIN}")


def _read_text(found: Any, shape: tuple[int, ...], where: str, unpacked: Unpacked) -> None:
    array = h5py.Dataset(found)
    if not shape:
        if found.get_space().get_simple_extent_type() == h5py.h5s.SCALAR:
            unpacked.take_text(_length(array[()]), where)
        return
    start, step, beside = 0, 1, max(1, math.prod(shape[1:]))
    while start < shape[0]:  # by few at first: each may be as long as the file
        n_bytes = sum(map(_length, array[start : start + step].flat))
        unpacked.take_text(n_bytes, where)
        start += step
        step = max(1, min(4 * step, step * _TEXT_AT_ONCE // (n_bytes + 1), _TEXTS_AT_ONCE // beside))


def _length(value: Any) -> int:
    """Bytes of a text, or of the texts of a row."""
    if isinstance(value, (bytes, str)):
        return len(value)
    return sum(len(field) for field in value if isinstance(field, (bytes, str))) if hasattr(value, "dtype") else 0
