"""Which rows are read: ranges of the fixed grid from row 0, and the share of them that one of several runs takes.

Plain `range` objects. It knows no files and no results.
"""

import re
from dataclasses import dataclass
from typing import Self

from scgpt_runtime.errors import OptionError
from scgpt_runtime.ranges import RANGE_ROWS

__all__ = ["Shard", "grid", "taken"]


def grid(n_cells: int, range_rows: int = RANGE_ROWS) -> list[range]:
    """All ranges of so many rows, in order; the last one may be shorter."""
    return [range(start, min(start + range_rows, n_cells)) for start in range(0, n_cells, range_rows)]


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` shares of the ranges, counted from 0.

    Raises
    ------
    OptionError
        When there is no such share.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise OptionError(
                f"shard is {self.index}/{self.count}; expected i/n with i from 0 to n - 1, such as 0/3, 1/3 and 2/3."
            )

    @classmethod
    def parse(cls, words: str) -> Self:
        """Read ``i/n``.

        Raises
        ------
        OptionError
            When the words do not read so.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", words.strip())
        if found is None:
            raise OptionError(f"shard is {words!r}; expected i/n, such as 0/3, 1/3 and 2/3 for three shards.")
        return cls(int(found[1]), int(found[2]))

    def of(self, n_ranges: int) -> range:
        """Numbers of the ranges that it takes: neighbours, and as many as any other share, or one more or less."""
        return range(self.index * n_ranges // self.count, (self.index + 1) * n_ranges // self.count)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def taken(n_cells: int, shard: Shard | None = None, range_rows: int = RANGE_ROWS) -> list[range]:
    """The ranges that one run takes: those of its shard, or all."""
    whole = grid(n_cells, range_rows)
    return whole if shard is None else [whole[number] for number in shard.of(len(whole))]
