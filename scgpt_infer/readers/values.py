"""What the values of a matrix are, told from a sample of its rows.

`CellBlock`s come in, a word comes out: integer, log1p, normalised or scaled. It is recorded with
the result and decides which matrix may be read; it never changes a value.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.cells import CellBlock

__all__ = ["Look", "recognise"]

# Above this no value is a logarithm of counts: log1p(4e8) is 20.
LOG_CEILING = 20.0
# Spread of row sums, as a part of their median, up to which they are one sum rounded.
SAME_SUM = 0.05
# Multiples of the smallest value of a row are told up to this one, to within this much of a whole number.
LARGEST_MULTIPLE, NEAR_WHOLE = 20, 0.02


@dataclass(frozen=True, slots=True)
class Look:
    """What a sample of rows says of a matrix.

    Attributes
    ----------
    values
        ``"integer"``, ``"log1p"``, ``"normalised"`` or ``"scaled"``.
    n_rows
        Rows sampled.
    n_negative
        Rows of them with a negative value.
    """

    values: str
    n_rows: int
    n_negative: int


def recognise(blocks: Iterable[CellBlock], logged: bool) -> Look:
    """What the values of a matrix are, told from sampled rows.

    The rule, first match wins; NaN and infinite values are left out of it:

    1. ``scaled``: more than half of the rows hold a negative value.
    2. ``integer``: all values are whole numbers.
    3. ``normalised``: a value reaches 20, which no log1p of counts does.
    4. ``normalised``: the values look like counts times a factor of their row: the row sums are nearly equal (their
       5th and 95th percentile lie within 5 % of the median) and more nearly than those of ``expm1``,
       or in most rows the values are whole multiples of the smallest one.
    5. ``log1p``: ``expm1`` of the values looks so (a matrix of selected genes has multiples but no equal sums),
       or the file says that they were logged (``uns["log1p"]``).
    6. ``normalised``: everything else.

    Parameters
    ----------
    blocks
        Sampled rows; of a dense matrix they are large, so no more than one block is held.
    logged
        Whether the file says that its values were logged.
    """
    n_rows = n_negative = 0
    whole = True
    top = 0.0
    plain, unlogged = _Rows([], []), _Rows([], [])
    for row in (row for block in blocks for row in _rows(block)):
        n_rows += 1
        n_negative += bool(np.any(row < 0))
        row = row[np.isfinite(row)]
        whole = whole and bool(np.all(row == np.rint(row)))
        top = max(top, float(row.max(initial=0.0)))
        plain.add(row)
        unlogged.add(np.expm1(np.minimum(row, LOG_CEILING)))
    if 2 * n_negative > n_rows:
        values = "scaled"
    elif whole:
        values = "integer"
    elif top >= LOG_CEILING or plain.spread() <= min(SAME_SUM, unlogged.spread()) or plain.are_multiples():
        values = "normalised"
    elif logged or unlogged.spread() <= SAME_SUM or unlogged.are_multiples():
        values = "log1p"
    else:
        values = "normalised"
    return Look(values, n_rows, n_negative)


def _rows(block: CellBlock) -> Iterator[NDArray[np.float64]]:
    for start, stop in pairwise(block.indptr.tolist()):
        yield block.data[start:stop].astype(np.float64)


@dataclass(frozen=True, slots=True)
class _Rows:
    """What is kept of each row: its sum, and whether it is multiples of one value (None: cannot be told)."""

    sums: list[float]
    multiples: list[bool | None]

    def add(self, row: NDArray[np.float64]) -> None:
        self.sums.append(float(row.sum()))
        self.multiples.append(_is_multiples(row[row > 0]))

    def spread(self) -> float:
        """Distance of the 5th and 95th percentile of the positive sums, as a part of their median."""
        positive = [total for total in self.sums if total > 0]
        if len(positive) < 2:
            return float("inf")
        low, middle, high = np.percentile(positive, (5, 50, 95))
        return float((high - low) / middle)

    def are_multiples(self) -> bool:
        """Whether most of the rows of which it can be told are whole multiples of their smallest value."""
        told = [answer for answer in self.multiples if answer is not None]
        return 2 * sum(told) > len(told)


def _is_multiples(row: NDArray[np.float64]) -> bool | None:
    if not len(row):
        return None
    ratios = row / row.min()
    ratios = ratios[(ratios > 1 + NEAR_WHOLE) & (ratios < LARGEST_MULTIPLE + 0.5)]
    if not len(ratios):
        return None
    return bool(np.all(np.abs(ratios - np.rint(ratios)) <= NEAR_WHOLE))
