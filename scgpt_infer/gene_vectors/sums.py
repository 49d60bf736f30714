"""Sums of vectors that come out the same in any order: fixed-point numbers in 64-bit integers.

In: rows of float32 and where each belongs. Out: means. It knows neither genes nor cells.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.errors import CellsError
from scgpt_runtime.jit import cached

__all__ = ["FRACTION_BITS", "Sums"]

FRACTION_BITS = 30
"""A value is rounded to a multiple of 2^-30 before it is added: hidden states leave a LayerNorm, so they lie around 1,
where float32 itself has steps of 2^-23."""

_LIMIT = 2.0 ** (62 - FRACTION_BITS)
"""Below this a sum of magnitudes is safe, with a bit to spare."""


@cached
def _largest(vectors: Any, rows: Any) -> float:
    """Largest magnitude in the rows that count."""
    largest = 0.0
    for i in range(len(rows)):
        if rows[i] >= 0:
            for column in range(vectors.shape[1]):
                largest = max(largest, abs(np.float64(vectors[i, column])))
    return largest


@cached
def _add(vectors: Any, rows: Any, scale: float, sums: Any, counts: Any) -> None:
    for i in range(len(rows)):
        row = rows[i]
        if row >= 0:
            counts[row] += 1
            for column in range(vectors.shape[1]):
                sums[row, column] += np.int64(np.rint(np.float64(vectors[i, column]) * scale))


class Sums:
    """Sums of vectors, and of how many each is.

    Parameters
    ----------
    n_rows, dim
        Sums, and their width. Memory is taken where something is added.

    Attributes
    ----------
    counts
        (n_rows,) int64 vectors in each sum.
    """

    def __init__(self, n_rows: int, dim: int) -> None:
        self._sums = np.zeros((n_rows, dim), np.int64)
        self.counts = np.zeros(n_rows, np.int64)
        self._largest = 0.0

    @staticmethod
    def bytes_of(n_rows: int, dim: int) -> int:
        """Memory of sums that all have something in them."""
        return n_rows * (dim + 1) * 8

    def add(self, vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
        """Add vectors.

        Parameters
        ----------
        vectors
            (n, dim) float32; finite where they count.
        rows
            (n,) int64 sum that each belongs to, -1 for one that counts for nothing.

        Raises
        ------
        CellsError
            A sum would not fit into 64 bits.
        """
        self._check(len(rows), max(self._largest, _largest(vectors, rows)))
        _add(vectors, rows, 2.0**FRACTION_BITS, self._sums, self.counts)

    def merge(self, other: "Sums") -> None:
        """Add the sums of another part of the vectors."""
        self._check(int(other.counts.max()), max(self._largest, other._largest))
        self._sums += other._sums
        self.counts += other.counts

    def means(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, dim) float32 means of these sums; each has something in it."""
        wide = self._sums[rows] / (self.counts[rows, None] * 2.0**FRACTION_BITS)
        narrow: NDArray[np.float32] = wide.astype(np.float32)
        return narrow

    def _check(self, more: int, largest: float) -> None:
        """Make sure that so many more vectors fit."""
        count = int(self.counts.max(initial=0)) + more
        if count * largest >= _LIMIT:
            raise CellsError(
                f"The sums of hidden states leave their range after {count:,} cells with values up to {largest:.3g}. "
                "Take fewer cells at a time (--limit), or groups of them (--by)."
            )
        self._largest = largest
