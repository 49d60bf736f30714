"""Where cells lie that are no file: a SOMA experiment in a folder or behind an address, or a release of the Census.

Words come in, a `Place` or None goes out. It opens nothing.
"""

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Place", "place_of"]

_CENSUS = "census:"
# A `Path` made of an address has lost one of its two slashes.
_REMOTE = re.compile(r"(azure|gs|s3|tiledb):/+(.+)", re.DOTALL)
_LOCAL = re.compile(r"(?:file|soma):(//?)(.+)", re.DOTALL)
_MARK = "__tiledb_group.tdb"
"""A file, most often empty, that every group of TileDB has in its folder."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a SOMA experiment lies.

    Attributes
    ----------
    uri
        Its address as TileDB takes it, or the path of its folder; empty for a release of the Census.
    release
        The release of the CELLxGENE Census, such as ``2025-01-30`` or ``stable``; else empty.
    path
        The folder, where it is one of this machine.
    """

    uri: str
    release: str = ""
    path: Path | None = None

    def __str__(self) -> str:
        return f"{_CENSUS}{self.release}" if self.release else self.uri


def place_of(cells: Path | str) -> Place | None:
    """Where the experiment lies that is meant; None where the words name a file, or a folder of another format.

    Parameters
    ----------
    cells
        ``census:RELEASE``, an address (``s3://``, ``gs://``, ``azure://``, ``tiledb://``), ``soma://FOLDER`` or
        ``file://FOLDER``, or a folder that TileDB wrote.
    """
    words = str(cells)
    if words.startswith(_CENSUS) and words != _CENSUS:
        return Place("", words.removeprefix(_CENSUS))
    if remote := _REMOTE.fullmatch(words):
        return Place(f"{remote[1]}://{remote[2]}")
    local = _LOCAL.fullmatch(words)
    path = _folder(*local.groups()) if local else Path(words)
    if local or (path / _MARK).is_file():
        return Place(str(path), path=path)
    return None


def _folder(slashes: str, rest: str) -> Path:
    """The folder of a local address; of one that was a `Path`, whose slash may be of either kind, what is there."""
    whole, short = Path(slashes + rest), Path(rest)
    return whole if slashes == "/" and (whole.exists() or not short.exists()) else short
