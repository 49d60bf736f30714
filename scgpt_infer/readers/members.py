"""Which files a folder, a pattern or a list of them means: `members`.

Paths come in, paths go out. Nothing is opened.
"""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from scgpt_infer.readers.source import CellPaths
from scgpt_runtime.errors import CellsError

__all__ = ["MEMBERS", "absolute", "folder_of", "members", "names_of"]

MEMBERS = (".h5", ".h5ad", ".h5mu", ".zarr", ".zarr.zip")
"""Suffixes of the files that a folder is taken for. Text is not among them: it may be anything."""


def members(cells: CellPaths) -> list[Path]:
    """The files that are meant, in the order in which they were named, those of a folder or pattern by name.

    Parameters
    ----------
    cells
        A path, a folder of files, a pattern such as ``"cells/*.h5ad"``, or several of these.

    Returns
    -------
    list of Path
        The path itself where it is no folder of files. Whether it exists is not looked at.

    Raises
    ------
    CellsError
        If a pattern fits nothing, nothing is named, or a file is named twice.
    """
    named = [cells] if isinstance(cells, (str, Path)) else list(cells)
    if not named:
        raise CellsError("No file of cells was named. Name at least one.")
    found = [file for one in named for file in _meant(one)]
    seen: set[str] = set()
    for file in found:
        real = os.path.realpath(file)
        if real in seen:
            raise CellsError(f"{file} is named twice, and so would its cells be. Name each file once.")
        seen.add(real)
    return found


def names_of(files: Sequence[Path]) -> list[str]:
    """What tells files from each other: their paths below the folder that all have in common."""
    whole = [os.path.abspath(file) for file in files]
    common = os.path.commonpath([os.path.dirname(file) for file in whole])
    return [Path(os.path.relpath(file, common)).as_posix() for file in whole]


def absolute(cells: CellPaths) -> CellPaths:
    """The same cells for a process with another working folder; an address of elsewhere stays as it is."""
    if isinstance(cells, (str, Path)):
        return Path(cells).absolute() if Path(cells).exists() else cells
    return [Path(one).absolute() if Path(one).exists() else one for one in cells]


def folder_of(cells: CellPaths) -> Path | None:
    """The folder, where it is one alone that names all files."""
    return Path(cells) if isinstance(cells, (str, Path)) and _of_folder(Path(cells)) else None


def _meant(one: Path | str) -> list[Path]:
    if not glob.has_magic(os.fspath(one)) or os.path.exists(one):
        return _of_folder(Path(one)) or [Path(one)]
    found = sorted(map(Path, glob.glob(os.fspath(one))))
    if not found:
        raise CellsError(f"No file has a name like {one}. Check the pattern.")
    return found


def _of_folder(path: Path) -> list[Path]:
    """Files of cells in a folder that is not itself a store or the folder of a matrix."""
    if path.name.lower().endswith(MEMBERS) or not path.is_dir():
        return []
    names = os.listdir(path)
    if any(name in ("zarr.json", ".zgroup") or name.lower().endswith((".mtx", ".mtx.gz")) for name in names):
        return []
    return [path / name for name in sorted(names) if name.lower().endswith(MEMBERS) and not name.startswith(".")]
