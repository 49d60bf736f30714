"""Sums of profiles that come out the same in any order: fixed-point numbers in 64-bit integers.

In: rows of values and the group of each. Out: means and variances. It knows neither genes nor cells.
"""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from scgpt_infer.evaluation.profiles import Moments
from scgpt_runtime.errors import CellsError, InternalError

__all__ = ["ProfileSums"]

_SCALE = 2.0**30
"""Values are rounded to multiples of 2^-30 before they are added: log-normalised expression lies below 20."""

_LIMIT = 2.0**62


class ProfileSums:
    """Sums of profiles, by group.

    Parameters
    ----------
    n_groups, n_genes
        Sums, and their width.
    squares
        Whether squares are summed as well, for variances.

    Attributes
    ----------
    counts
        (n_groups,) int64 profiles in each sum.
    """

    def __init__(self, n_groups: int, n_genes: int, *, squares: bool = False) -> None:
        self._sums = np.zeros((n_groups, n_genes), np.int64)
        self._squares = np.zeros((n_groups, n_genes), np.int64) if squares else None
        self.counts = np.zeros(n_groups, np.int64)
        self._largest = 0.0

    @staticmethod
    def bytes_of(n_groups: int, n_genes: int) -> int:
        """Memory of all sums, without squares."""
        return 8 * n_groups * n_genes

    def add(self, profiles: NDArray[np.float32], groups: NDArray[np.int64]) -> None:
        """Add profiles.

        Parameters
        ----------
        profiles
            (n, n_genes) finite values.
        groups
            (n,) sum that each belongs to, -1 for one that counts for nothing.

        Raises
        ------
        CellsError
            A sum would not fit into 64 bits.
        """
        rows = np.flatnonzero(groups >= 0)
        wide = profiles[rows].astype(np.float64)
        self.counts += np.bincount(groups[rows], minlength=len(self.counts))
        self._largest = max(self._largest, float(np.abs(wide).max(initial=0.0)))
        if max(self._largest, self._largest**2) * _SCALE * max(int(self.counts.max(initial=0)), 1) >= _LIMIT:
            raise CellsError(
                f"The sums of profiles leave their range: values reach {self._largest:.3g}, and log-normalised "
                "expression lies below 20. Check what the values are (--values), or take fewer cells (--cells)."
            )
        ones = np.ones(len(rows), np.int64)
        into = sp.csr_matrix((ones, (groups[rows], np.arange(len(rows)))), (len(self.counts), len(rows)))
        self._sums += into @ np.rint(wide * _SCALE).astype(np.int64)
        if self._squares is not None:
            self._squares += into @ np.rint(wide * wide * _SCALE).astype(np.int64)

    def mean(self, group: int) -> NDArray[np.float64]:
        """(n_genes,) mean of a group, NaN where it has no profile."""
        with np.errstate(invalid="ignore"):
            found: NDArray[np.float64] = self._sums[group] / (_SCALE * self.counts[group])
        return found

    def moments(self, group: int) -> Moments:
        """Mean and variance of a group that has profiles."""
        if self._squares is None:
            raise InternalError("Variances were asked of sums without squares.")
        n, mean = int(self.counts[group]), self.mean(group)
        variance = (self._squares[group] / _SCALE - n * mean * mean) / max(n - 1, 1)
        return Moments(n, mean, np.maximum(variance, 0.0))
