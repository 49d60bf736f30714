"""What cells a ledger is of: `Origin`, by which a file is known again without reading all of it.

It knows no formats: a file is bytes, a folder is files.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from scgpt_runtime.errors import CellsError

__all__ = ["Origin"]

_PIECES = 64
_PIECE_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Origin:
    """The input of a job.

    Attributes
    ----------
    paths
        Where it lay.
    names
        What its files are called.
    size
        Bytes of all of them.
    modified
        When the youngest was last written, in nanoseconds; a copy is younger.
    sample
        sha256 of pieces spread over all files, their ends among them.
    """

    paths: tuple[str, ...]
    names: tuple[str, ...]
    size: int
    modified: int
    sample: str

    @classmethod
    def of(cls, paths: Sequence[Path | str]) -> Self:
        """Look at files, folders, or addresses of elsewhere, which are taken by their names.

        Raises
        ------
        CellsError
            A file is gone, or cannot be read.
        """
        found, sizes, modified = hashlib.sha256(), dict[Path, int](), 0
        for path in paths:
            for file in _files(Path(path)):
                with _reading(file):
                    state = file.stat()
                found.update(f"{file.relative_to(path)}:{state.st_size}:".encode("utf-8", "surrogateescape"))
                sizes[file], modified = state.st_size, max(modified, state.st_mtime_ns)
        _sample(sizes, max(_PIECES, len(paths)), found)
        where = tuple(os.path.abspath(path) if Path(path).exists() else str(path) for path in paths)
        return cls(where, tuple(Path(path).name for path in paths), sum(sizes.values()), modified, found.hexdigest())

    def told(self) -> dict[str, Any]:
        """What must be equal for two inputs to be the same, by the words that a message has for it."""
        return {
            "name of the input": list(self.names),
            "size of the input": self.size,
            "content of the input": self.sample,
        }


def _files(path: Path) -> Iterator[Path]:
    """The files of a path, in an order of their own."""
    if path.is_dir():
        for folder, folders, names in os.walk(path):
            folders.sort()
            yield from (Path(folder) / name for name in sorted(names))
    elif path.exists():
        yield path


def _sample(sizes: Mapping[Path, int], n_pieces: int, found: "hashlib._Hash") -> None:
    """Read pieces that lie evenly over all files, one behind the other; all there is where that is not more."""
    files, ends = list(sizes), np.cumsum([0, *sizes.values()])
    total = int(ends[-1])
    if total <= n_pieces * _PIECE_BYTES:
        starts = [(file, 0, size) for file, size in sizes.items()]
    else:
        places = [number * (total - _PIECE_BYTES) // (n_pieces - 1) for number in range(n_pieces)]
        holders = np.searchsorted(ends, places, side="right") - 1
        starts = [
            (files[holder], place - int(ends[holder]), _PIECE_BYTES)
            for holder, place in zip(holders.tolist(), places, strict=True)
        ]
    for file, start, size in starts:
        with _reading(file), file.open("rb") as stream:
            stream.seek(start)
            found.update(stream.read(size))


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CellsError(f"{file} cannot be read: {error.strerror}. Check that it is still there.") from error
