"""How much memory reading may take: `ReadingRoom`, and how much it will take, `Weighed`, `weight_of`.

Sizes of pieces only: what is read does not depend on them. It knows no formats.
"""

from dataclasses import dataclass, replace
from typing import Protocol, Self, runtime_checkable

__all__ = ["ROOM", "ReadingRoom", "Weighed", "weight_of"]

_MB = 1 << 20
# A value and its column.
_VALUE_BYTES = 8
# The least of each: pieces that are smaller save little and cost much.
_LEAST = 4 * _MB
# Part of the room that a piece may be, so that what works with such pieces stays within it: a bucket is held three
# times while it is sorted, of text there are three tapes, and beside a slab as much is put together or converted.
_PART = {"slab_bytes": 3, "bucket_bytes": 5, "tape_bytes": 4, "work_bytes": 8, "kept_bytes": 12}


@dataclass(frozen=True, slots=True)
class ReadingRoom:
    """Sizes of what is held while cells are read, in bytes.

    Attributes
    ----------
    slab_bytes
        Rows of a dense matrix that are read at once, unless the chunks of the file are taller.
    bucket_bytes
        Entries that are sorted by cells at once, where a file has them by genes.
    tape_bytes
        Of each array that is made of a text, before it goes to a temporary file.
    work_bytes
        Compressed chunks that are inflated at once.
    kept_bytes
        Chunks side by side that are kept from one range of rows for the next.
    """

    slab_bytes: int = 64 * _MB
    bucket_bytes: int = 512 * _MB
    tape_bytes: int = 64 * _MB
    work_bytes: int = 64 * _MB
    kept_bytes: int = 32 * _MB

    @classmethod
    def within(cls, n_bytes: int) -> Self:
        """The sizes with which reading takes at most so many bytes, beside the rows themselves.

        None is larger than without a limit, nor so small that nothing could be read.
        """
        usual = cls()
        sizes = {name: min(getattr(usual, name), n_bytes // part) for name, part in _PART.items()}
        return cls(**{name: max(size, _LEAST) for name, size in sizes.items()})

    def among(self, count: int) -> Self:
        """The sizes with which so many files may be open at once: what each holds is a part of what one would."""
        held = ("bucket_bytes", "tape_bytes", "kept_bytes")
        return replace(self, **{name: max(getattr(self, name) // count, _LEAST) for name in held})


ROOM = ReadingRoom()
"""Where nothing is said of memory."""


@runtime_checkable
class Weighed(Protocol):
    """Rows, or cells, that can say what reading them takes."""

    def weight(self, n_rows: int, widest: int) -> int:
        """Most bytes that come up while ``n_rows`` neighbouring rows are read, the rows themselves among them.

        Parameters
        ----------
        n_rows
            Rows that are read at once, of the grid from row 0.
        widest
            Most values of a row, as far as a sample tells.
        """
        ...


def weight_of(cells: object, n_rows: int, widest: int) -> int:
    """`Weighed.weight` of cells or of their ``rows``; where neither says it, that of a few copies of the rows."""
    for told in (cells, getattr(cells, "rows", None)):
        if isinstance(told, Weighed):
            return told.weight(n_rows, widest)
    return 3 * _VALUE_BYTES * n_rows * widest
