"""Attention scores of a cell -> ranks: along keys, then along queries on the ranks, summed over heads.

In: raw scores as the graph ``attention`` gives them. Out: whole numbers, so that sums over cells are the same in any
order. It knows neither genes nor conditions.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.cells import AnyBatch
from scgpt_runtime.jit import cached, inner

__all__ = ["MOST_TOKENS", "RankFold", "add_ranks", "rank_sums"]

MOST_TOKENS = 1 << 16
"""Ranks are kept in 16 bits."""

_TILE = 32
"""Rows that are turned at a time: a cache line of 16-bit ranks."""

_SIGN = np.uint32(0x80000000)
_EXPONENT = np.uint32(0x7F800000)


@inner
def _rank_row(bits: Any, ranks: Any, keys: Any, places: Any, counts: Any) -> bool:
    """Place of each score among those of its row, equal ones in the order they stand in; False if one is not finite.

    A radix sort of the scores' bits, a byte at a time.
    """
    n = len(ranks)
    counts[:] = 0
    for i in range(n):
        key = bits[i]
        if key & _EXPONENT == _EXPONENT:
            return False
        if key == _SIGN:  # -0 is 0
            key = np.uint32(0)
        key = ~key if key & _SIGN else key | _SIGN
        keys[0, i], places[0, i] = key, i
        for byte in range(4):
            counts[byte, (key >> np.uint32(8 * byte)) & np.uint32(255)] += 1
    here = 0
    for byte in range(4):
        start = 0
        for value in range(256):
            count = counts[byte, value]
            counts[byte, value] = start
            start += count
        for i in range(n):
            key = keys[here, i]
            value = (key >> np.uint32(8 * byte)) & np.uint32(255)
            to = counts[byte, value]
            counts[byte, value] = to + 1
            keys[1 - here, to], places[1 - here, to] = key, places[here, i]
        here = 1 - here
    for i in range(n):
        ranks[places[here, i]] = i
    return True


@inner
def _rank_small(values: Any, ranks: Any, starts: Any) -> None:
    """As `_rank_row`, for numbers below their count: counted, not sorted."""
    n = len(values)
    starts[:] = 0
    for i in range(n):
        starts[values[i] + 1] += 1
    for value in range(n):
        starts[value + 1] += starts[value]
    for i in range(n):
        ranks[i] = starts[values[i]]
        starts[values[i]] += 1


@cached
def add_ranks(bits: Any, totals: Any) -> bool:
    """Add the ranks of one cell's scores, over all heads.

    Parameters
    ----------
    bits
        (heads, at least n, at least n) uint32, the bits of float32 scores, rows queries.
    totals
        (n, n) float32 that each rank, a whole number from 0 to n - 1, is added to.

    Returns
    -------
    bool
        False if a score is not finite; the totals mean nothing then.
    """
    heads, n = bits.shape[0], totals.shape[0]
    turned = np.empty((n, n), np.uint16)  # ranks along keys, (key, query)
    tile = np.empty((_TILE, n), np.uint16)
    keys, places = np.empty((2, n), np.uint32), np.empty((2, n), np.uint16)
    counts, starts = np.empty((4, 256), np.int32), np.empty(n + 1, np.int32)
    for head in range(heads):
        for first in range(0, n, _TILE):
            rows = min(_TILE, n - first)
            for row in range(rows):
                if not _rank_row(bits[head, first + row, :n], tile[row], keys, places, counts):
                    return False
            for key in range(n):
                for row in range(rows):
                    turned[key, first + row] = tile[row, key]
        for first in range(0, n, _TILE):
            rows = min(_TILE, n - first)
            for row in range(rows):
                _rank_small(turned[first + row], tile[row], starts)
            for query in range(n):
                for row in range(rows):
                    totals[query, first + row] += tile[row, query]
    return True


def rank_sums(scores: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """(length, length) float32 sums over heads of one cell's ranks, NaN where its scores are not finite.

    Divided by heads and length they are what the original's tutorial calls scores: a rank along keys, then a rank of
    the ranks along queries, each by a stable sort (the original's is not, so that there equal ranks lie anyhow).

    Parameters
    ----------
    scores
        (heads, tokens, tokens) float32, rows queries.
    length
        Tokens that are the cell's.
    """
    totals = np.zeros((length, length), np.float32)
    if not add_ranks(np.ascontiguousarray(scores, np.float32).view(np.uint32), totals):
        totals.fill(np.nan)
    return totals


class RankFold:
    """Makes of each cell's scores the sums of its ranks, as a `scgpt_runtime.folds.Fold`.

    Parameters
    ----------
    length
        Tokens of every cell.
    """

    def __init__(self, length: int) -> None:
        self._length = length

    @property
    def pooling(self) -> str:
        """``attention-ranks``."""
        return "attention-ranks"

    def outputs(self, dim: int) -> dict[str, tuple[int, ...]]:
        """``ranks``, (length, length) a cell."""
        return {"ranks": (self._length, self._length)}

    def __call__(self, batch: AnyBatch, answers: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """(n_cells, length, length) float32 `rank_sums` of output ``scores``."""
        return {"ranks": np.stack([rank_sums(scores, self._length) for scores in answers["scores"]])}
