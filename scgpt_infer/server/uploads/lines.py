"""A table of text, before it is read: how much it unpacks to, how long its lines are. No line is understood here."""

import gzip
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.server.uploads.limits import Limits
from scgpt_infer.sizes import size
from scgpt_runtime.errors import CellsError

__all__ = ["check_lines"]

_BLOCK_BYTES = 4 << 20
_GZIP = b"\x1f\x8b"


def check_lines(path: Path, limits: Limits) -> None:
    """Refuse text that unpacks to too much, has lines that are too long or too many, or is no text.

    Raises
    ------
    CellsError
        As said.
    """
    most, most_lines = limits.unpacked(path.stat().st_size), max(limits.cells, limits.genes) + 1
    n_bytes = n_lines = open_bytes = 0  # open: of a line whose end was not seen
    with path.open("rb") as stream:
        packed = stream.read(len(_GZIP)) == _GZIP
    with gzip.open(path, "rb") if packed else path.open("rb") as text:
        while block := _read(text, path):
            n_bytes += len(block)
            if n_bytes > most:
                raise CellsError(f"{path} unpacks to more than {size(most)}; expected at most that. Send its parts.")
            bytes_ = np.frombuffer(block, np.uint8)
            if not bytes_.all():
                raise CellsError(f"{path} is no text: it holds zero bytes. Check what it is.")
            ends = np.flatnonzero(bytes_ == ord("\n"))
            longest = _longest(ends, open_bytes, len(block))
            if longest > limits.line_bytes:
                raise CellsError(
                    f"Line {n_lines + 1:,} of {path}, or one soon after, has more than {size(limits.line_bytes)}; "
                    "expected less. Check what the file is, or send the cells as .h5ad."
                )
            n_lines += len(ends)
            open_bytes = len(block) - 1 - int(ends[-1]) if len(ends) else open_bytes + len(block)
            if n_lines > most_lines:
                raise CellsError(f"{path} has more than {most_lines:,} lines; expected at most that. Send its parts.")


def _read(text: IO[bytes] | gzip.GzipFile, path: Path) -> bytes:
    try:
        return text.read(_BLOCK_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise CellsError(f"{path} is cut short or damaged: {error}. Copy or download it again.") from error


def _longest(ends: NDArray[np.intp], before: int, n_bytes: int) -> int:
    """Bytes of the longest line of a block, of which so many came before it."""
    if not len(ends):
        return before + n_bytes
    return max(before + int(ends[0]), int(np.diff(ends).max(initial=0)), n_bytes - 1 - int(ends[-1]))
