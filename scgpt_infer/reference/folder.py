"""The folder of an index: how it is proven unchanged, and gives its arrays.

In: paths and records. Out: files, arrays. It knows nothing of neighbours. Nothing in it is a pickle.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.reference.manifest import FILE, IndexManifest
from scgpt_runtime.digests import Digests, sha256_of
from scgpt_runtime.errors import ReferenceChangedError, ReferenceIndexError
from scgpt_runtime.records import FileRecord

__all__ = ["array", "names", "proven", "recorded", "written_names"]

_MEANT = {"\\": "\\", "n": "\n", "r": "\r"}
_ESCAPED = re.compile(r"\\([\\nr])")


def recorded(folder: Path) -> tuple[FileRecord, ...]:
    """Size and sha256 of each file of a finished folder."""
    paths = sorted(path for path in folder.iterdir() if path.name != FILE)
    return tuple(FileRecord(path.name, path.stat().st_size, sha256_of(path)) for path in paths)


def proven(folder: Path, manifest: IndexManifest, cache_dir: Path | None) -> None:
    """Make sure that every file is the one that was written: sizes each time, sha256 once per state of a file.

    Raises
    ------
    ReferenceChangedError
        One is not; it is named.
    """
    digests = Digests(folder, cache_dir)
    for record in manifest.files:
        path = folder / record.path
        if not path.is_file():
            raise ReferenceChangedError(f"{path} is missing. Take a fresh copy of the index.")
        if (size := path.stat().st_size) != record.size:
            raise ReferenceChangedError(
                f"{path} has {size:,} bytes, {record.size:,} were written. Take a fresh copy of the index."
            )
        if digests.known(path, record.path) == record.sha256:
            continue
        if digests.compute(path, record.path) != record.sha256:
            raise ReferenceChangedError(f"{path} is not the file that was written. Take a fresh copy of the index.")
    digests.save()


def array(folder: Path, manifest: IndexManifest, name: str, dtype: type[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """An array of the index as a memory map.

    Raises
    ------
    ReferenceIndexError
        The manifest does not list it, or tells another shape.
    """
    path = folder / name
    if name not in {record.path for record in manifest.files}:
        raise ReferenceIndexError(f"{folder / FILE} lists no {name}. Build the index anew: scgpt-infer index")
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise ReferenceIndexError(f"{path} is no array: {error}. Build the index anew: scgpt-infer index") from error
    if found.dtype != dtype or found.shape != shape:
        raise ReferenceIndexError(
            f"{path} holds {found.dtype} {found.shape}; expected {np.dtype(dtype)} {shape}. "
            "Build the index anew: scgpt-infer index"
        )
    return np.asarray(found)


def written_names(path: Path, found: Iterable[str]) -> None:
    """Write names, one a line."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{_one_line(name)}\n" for name in found)


def names(path: Path) -> list[str]:
    """Names as `written_names` was given them; in the file their line ends and backslashes are escaped."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [_ESCAPED.sub(lambda found: _MEANT[found[1]], line) if "\\" in line else line for line in lines]


def _one_line(name: str) -> str:
    return name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
