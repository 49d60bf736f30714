"""What a ledger says of a range that is done: `Mark`, a line of JSON, and how such lines are written and read.

A line that a crash has cut short is no mark. It knows no parts.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from scgpt_infer.writers.sink import output_errors

__all__ = ["Mark", "append", "digest", "read_marks"]


@dataclass(frozen=True, slots=True)
class Mark:
    """A range whose part is on the disk.

    Attributes
    ----------
    first_row, n_cells
        Its rows.
    n_bad
        Those of them without a result.
    sha256, size
        Of the bytes of its part.
    longest
        Tokens of its longest cell.
    batch_tokens
        Most tokens of a batch when it was done: fewer than before, where memory has run out.
    """

    first_row: int
    n_cells: int
    n_bad: int
    sha256: str
    size: int
    longest: int
    batch_tokens: int

    @property
    def rows(self) -> range:
        """Its rows."""
        return range(self.first_row, self.first_row + self.n_cells)


def append(path: Path, mark: Mark) -> None:
    """Add a line to a ledger, and bring it to the disk.

    A line that was cut short by a crash, or by a full disk, is ended first.
    """
    line = json.dumps(asdict(mark), separators=(",", ":")).encode() + b"\n"
    with output_errors(path), path.open("a+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if end and os.pread(file.fileno(), 1, end - 1) != b"\n":
            line = b"\n" + line
        written = file.write(line)
        if written != len(line):
            file.write(line[written or 0 :])
        os.fsync(file.fileno())


def read_marks(path: Path) -> list[Mark]:
    """The marks of a ledger, in the order in which they were made; lines that are none are left out."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    return [mark for mark in map(_mark, lines) if mark is not None]


def digest(marks: Iterable[Mark]) -> str:
    """One sha256 of all parts, in the order of their rows: equal for runs that answered alike to the last bit."""
    return hashlib.sha256("".join(mark.sha256 for mark in sorted(marks, key=_row)).encode()).hexdigest()


def _row(mark: Mark) -> int:
    return mark.first_row


def _mark(line: bytes) -> Mark | None:
    try:
        return Mark(**json.loads(line))
    except (ValueError, TypeError):
        return None
