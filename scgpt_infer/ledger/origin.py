"""What cells a ledger is of: `Origin`, by which a file is known again without reading all of it.

It knows no formats: a file is bytes, a folder is files.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

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
        found, size, modified = hashlib.sha256(), 0, 0
        for path in paths:
            for file in _files(Path(path)):
                try:
                    state = file.stat()
                    found.update(f"{file.relative_to(path)}:{state.st_size}:".encode("utf-8", "surrogateescape"))
                    _sample(file, state.st_size, found)
                except OSError as error:
                    raise CellsError(
                        f"{file} cannot be read: {error.strerror}. Check that it is still there."
                    ) from error
                size, modified = size + state.st_size, max(modified, state.st_mtime_ns)
        where = tuple(os.path.abspath(path) if Path(path).exists() else str(path) for path in paths)
        return cls(where, tuple(Path(path).name for path in paths), size, modified, found.hexdigest())

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


def _sample(file: Path, size: int, found: "hashlib._Hash") -> None:
    with file.open("rb") as stream:
        if size <= _PIECES * _PIECE_BYTES:
            found.update(stream.read())
            return
        for number in range(_PIECES):
            stream.seek(number * (size - _PIECE_BYTES) // (_PIECES - 1))
            found.update(stream.read(_PIECE_BYTES))
