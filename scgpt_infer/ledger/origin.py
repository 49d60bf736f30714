"""What cells a ledger is of: `Origin`, by which files are known again without reading all of them; `Untouched`.

A file is bytes, a folder is files; of formats it knows that the three files of a Matrix Market matrix may share their
folder with anything, results of ours among it.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from scgpt_infer.readers.mtx_files import find
from scgpt_runtime.errors import CellsError

__all__ = ["Origin", "Untouched"]

_PIECES = 64
_PIECE_BYTES = 64 << 10
_FILES = 256
"""So many files have a piece of their own read, or are looked at again and again; of more, as many evenly spread."""

_ZARR = frozenset({".zarray", ".zattrs", ".zgroup", ".zmetadata"})
_MTX = (".mtx", ".mtx.gz")


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
        One hash of the name, size and time of the last change of each file; that of a copy is another.
    sample
        sha256 of the names and sizes of all files, and of pieces of them.
    """

    paths: tuple[str, ...]
    names: tuple[str, ...]
    size: int
    modified: str
    sample: str

    @classmethod
    def of(cls, paths: Sequence[Path | str]) -> Self:
        """Look at files, folders, or addresses of elsewhere, which are taken by their names.

        Raises
        ------
        CellsError
            A file is gone, or cannot be read.
        """
        files = _files(paths)
        where = tuple(os.path.abspath(path) if Path(path).exists() else str(path) for path in paths)
        names = tuple(Path(path).name for path in paths)
        return cls(where, names, sum(file.size for file in files), _modified(files), _sample(files))

    def told(self) -> dict[str, Any]:
        """What must be equal for two inputs to be the same, by the words that a message has for it."""
        return {
            "name of the input": list(self.names),
            "size of the input": self.size,
            "content of the input": self.sample,
        }


class Untouched:
    """Looks whether an input is still what a job was begun with. It reads sizes and times alone.

    Parameters
    ----------
    origin
        The input, as it was then; None where it lay in no file.
    paths
        Where it is read from here.

    Raises
    ------
    CellsError
        It is another already.
    """

    def __init__(self, origin: Origin | None, paths: Sequence[Path | str]) -> None:
        self._files = [] if origin is None else _files(paths)
        if origin is not None and _modified(self._files) != origin.modified:
            raise _touched(str(paths[0]) if len(paths) == 1 else f"One of {len(paths):,} files ({paths[0]}, ...)")
        self._files = _spread(self._files)

    def check(self) -> None:
        """Look again, at no more than a few hundred files.

        Raises
        ------
        CellsError
            A file was changed, replaced or removed.
        """
        for file in self._files:
            try:
                found = file.path.stat()
            except OSError as error:
                raise _touched(str(file.path)) from error
            if (found.st_size, found.st_mtime_ns) != (file.size, file.modified):
                raise _touched(str(file.path))


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    name: str  # below the path that was asked for
    size: int
    modified: int


def _files(paths: Sequence[Path | str]) -> list[_File]:
    """The files of all paths, each in an order of its own."""
    return [_stated(path, file) for path in map(Path, paths) for file in _below(path)]


def _stated(path: Path, file: Path) -> _File:
    with _reading(file):
        state = file.stat()
    return _File(file, os.path.relpath(file, path), state.st_size, state.st_mtime_ns)


def _below(path: Path) -> Iterator[Path]:
    """The files of a path; what a job leaves in a folder while it is at work is none of them."""
    if _is_mtx(path):
        files = find(path)
        yield from (files.matrix, files.features, files.barcodes)
    elif path.is_dir():
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(filter(_is_input, folders))
            yield from (Path(folder) / name for name in sorted(filter(_is_input, names)))
    elif path.exists():
        yield path


def _is_mtx(path: Path) -> bool:
    with _reading(path):
        names = os.listdir(path) if path.is_dir() else [path.name] if path.exists() else []
    return any(name.lower().endswith(_MTX) for name in names)


def _is_input(name: str) -> bool:
    return name in _ZARR or not (name.startswith(".") or name.endswith(".parts"))


def _modified(files: Sequence[_File]) -> str:
    found = hashlib.sha256()
    for file in files:
        found.update(f"{file.name}:{file.size}:{file.modified}:".encode("utf-8", "surrogateescape"))
    return found.hexdigest()[:16]


def _spread(files: list[_File]) -> list[_File]:
    """All files, or as many as are taken of many."""
    if len(files) <= _FILES:
        return files
    return [files[number * (len(files) - 1) // (_FILES - 1)] for number in range(_FILES)]


def _sample(files: list[_File]) -> str:
    """Read pieces that lie evenly over all files, one behind the other, and one of each; or all, if that is less."""
    found, ends = hashlib.sha256(), np.cumsum([0, *(file.size for file in files)])
    for file in files:
        found.update(f"{file.name}:{file.size}:".encode("utf-8", "surrogateescape"))
    total, some = int(ends[-1]), _spread(files)
    if total <= _PIECES * _PIECE_BYTES and len(some) == len(files):
        pieces = [(file, 0, file.size) for file in files]
    else:
        places = [number * max(0, total - _PIECE_BYTES) // (_PIECES - 1) for number in range(_PIECES)] if total else []
        holders = np.searchsorted(ends, places, side="right") - 1
        starts = zip(holders.tolist(), places, strict=True)
        pieces = [(files[holder], place - int(ends[holder]), _PIECE_BYTES) for holder, place in starts]
        if len(files) > 1:
            pieces += [(file, max(0, file.size - _PIECE_BYTES) // 2, _PIECE_BYTES) for file in some]
    for file, start, size in pieces:
        with _reading(file.path), file.path.open("rb") as stream:
            stream.seek(start)
            found.update(stream.read(size))
    return found.hexdigest()


def _touched(where: str) -> CellsError:
    return CellsError(
        f"{where} was changed, replaced or removed since the job began, so what was read of it is not used. Bring it "
        "back as it was and run the same command again, or begin anew (--no-resume, resume=False)."
    )


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CellsError(f"{file} cannot be read: {error.strerror}. Check that it is still there.") from error
