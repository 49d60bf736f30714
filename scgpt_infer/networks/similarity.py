"""Which genes are alike: vectors in, edges between the nearest or above a threshold out, by cosine.

Products in float32 only tell which pairs can count; a pair's cosine is that of its own two vectors in float64, so no
block and no thread changes it. Memory grows with edges, not with pairs. It knows no names.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.reference.exact import nearest
from scgpt_runtime.errors import GenesError

__all__ = ["MOST_EDGES", "Edges", "near_edges", "strong_edges", "unit"]

Vectors = NDArray[np.float32]
Places = NDArray[np.int64]

MOST_EDGES = 20_000_000
"""More pairs above a threshold are an error: a network of that size answers no question and fills the memory."""

_BLOCK = 2_048  # 2,048 x 2,048 products take 16 MiB
_PAIRS = 8_192
_ROUNDING = 2.0**-23  # of each addition of a product in float32, with room for lengths that are not quite 1


@dataclass(frozen=True, slots=True)
class Edges:
    """Pairs of rows, the largest cosine first, equal ones by their places.

    Attributes
    ----------
    source, target
        (n_edges,) int32, the source before the target.
    cosine
        (n_edges,) float32, above 0.
    """

    source: NDArray[np.int32]
    target: NDArray[np.int32]
    cosine: Vectors


def unit(vectors: Vectors) -> Vectors:
    """(n, dim) vectors of length 1.

    Raises
    ------
    GenesError
        One has no direction.
    """
    blocks = range(0, len(vectors), _BLOCK)  # float64 is twice as large
    squares = [np.square(vectors[start : start + _BLOCK].astype(np.float64)).sum(axis=1) for start in blocks]
    lengths = np.sqrt(np.concatenate(squares))
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(bad):
        raise GenesError(
            f"The embeddings of {len(bad):,} genes are zero or not finite, the first in row {bad[0]}, so they are like "
            "no other. Leave these genes out, or export the checkpoint again."
        )
    narrow = np.empty_like(vectors)
    for start in blocks:
        some = slice(start, start + _BLOCK)
        narrow[some] = vectors[some] / lengths[some, None]
    return narrow


def near_edges(vectors: Vectors, k: int, threshold: float | None = None) -> Edges:
    """Edges between each row and its nearest others; one direction is enough.

    Parameters
    ----------
    vectors
        (n, dim) from `unit`.
    k
        Neighbours of each row, itself not counted.
    threshold
        Smallest cosine of an edge; None: above 0.
    """
    k = min(k, len(vectors) - 1)
    rows = nearest(vectors, vectors, k + 1).rows  # (n, k + 1), nearest first, itself among them
    places = np.arange(len(vectors))[:, None]
    itself = rows == places
    itself[~itself.any(axis=1), -1] = True  # more than k rows equal to this one stand before it
    others = rows[~itself].reshape(len(vectors), k)
    first, second = np.broadcast_to(places, others.shape).ravel(), others.ravel()
    low, high = np.minimum(first, second), np.maximum(first, second)
    pairs = np.unique(low * len(vectors) + high)
    return _sorted(vectors, *np.divmod(pairs, len(vectors)), threshold)


def strong_edges(vectors: Vectors, threshold: float) -> Edges:
    """Edges between all rows whose cosine is at least a threshold.

    Raises
    ------
    GenesError
        There are more than `MOST_EDGES`.
    """
    found = list(_above(vectors, threshold))
    low = np.concatenate([pair[0] for pair in found]) if found else np.zeros(0, np.int64)
    high = np.concatenate([pair[1] for pair in found]) if found else np.zeros(0, np.int64)
    return _sorted(vectors, low, high, threshold)


def _above(vectors: Vectors, threshold: float) -> Iterator[tuple[Places, Places]]:
    """Pairs that may reach the threshold, block by block of the upper triangle."""
    floor = np.float32(threshold - vectors.shape[1] * _ROUNDING)
    total = 0
    for top in range(0, len(vectors), _BLOCK):
        for left in range(top, len(vectors), _BLOCK):
            products = vectors[top : top + _BLOCK] @ vectors[left : left + _BLOCK].T
            low, high = np.nonzero(products >= floor)
            low, high = low + top, high + left
            once = low < high  # a block on the diagonal has each pair twice, and rows with themselves
            total += int(once.sum())
            if total > MOST_EDGES:
                raise GenesError(
                    f"More than {MOST_EDGES:,} pairs of the {len(vectors):,} genes have a cosine of {threshold:g} or "
                    "more. Raise --threshold (threshold), or take the nearest of each gene (--neighbours)."
                )
            yield low[once], high[once]


def _sorted(vectors: Vectors, low: Places, high: Places, threshold: float | None) -> Edges:
    cosine = _cosines(vectors, low, high)
    kept = cosine > 0 if threshold is None else cosine >= threshold
    low, high, cosine = low[kept], high[kept], cosine[kept]
    order = np.lexsort((high, low, -cosine))
    return Edges(low[order].astype(np.int32), high[order].astype(np.int32), cosine[order].astype(np.float32))


def _cosines(vectors: Vectors, low: Places, high: Places) -> NDArray[np.float64]:
    """Cosine of each pair. A sum over one row is the same whatever rows are summed with it."""
    found = np.empty(len(low))
    for start in range(0, len(low), _PAIRS):
        some = slice(start, start + _PAIRS)
        found[some] = (vectors[low[some]].astype(np.float64) * vectors[high[some]]).sum(axis=1)
    return found
