"""The nearest reference cells by exact distance: query and reference vectors in, `Neighbours` out.

Products in float32 only tell which cells can be among the nearest, with a margin for their rounding. The order is that
of (distance in float64, row), so no batch, block or number of threads changes it. It knows no labels and no files.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["NORM_SLACK", "Neighbours", "nearest", "reranked"]

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]

NORM_SLACK = 1e-5
"""How far the length of a reference vector may be from 1. Rounding to float32 makes about 1e-7."""

_QUERIES = 512
_ROWS = 16_384  # 512 x 16,384 products take 32 MiB
_PAIRS = 8_192  # pairs of vectors that are subtracted at a time; 32 MiB in float64 at 512 wide


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest reference cells of some queries, nearest first.

    Attributes
    ----------
    rows
        (n_queries, k) rows of the reference, -1 where there are fewer, and for a query that is not finite.
    distances
        (n_queries, k) squared Euclidean distances, infinite where there is no row.
    """

    rows: Rows
    distances: NDArray[np.float64]


def nearest(queries: Vectors, vectors: Vectors, k: int) -> Neighbours:
    """The nearest of all reference vectors.

    Parameters
    ----------
    queries
        (n_queries, dim).
    vectors
        (n_cells, dim) of unit length within `NORM_SLACK`; may be a memory map.
    k
        Neighbours of each query.

    Returns
    -------
    Neighbours
        Equal distances in the order of rows.
    """
    good = np.flatnonzero(np.isfinite(queries).all(axis=1))
    found = _nobody(len(queries), k)
    for start in range(0, len(good), _QUERIES):
        some = good[start : start + _QUERIES]
        block = _nearest(np.ascontiguousarray(queries[some]), vectors, k)
        found.rows[some], found.distances[some] = block.rows, block.distances
    return found


def reranked(queries: Vectors, vectors: Vectors, candidates: Rows, k: int) -> Neighbours:
    """The nearest of some candidates, by exact distance.

    Parameters
    ----------
    queries, vectors, k
        See `nearest`.
    candidates
        (n_queries, any number) different rows of `vectors` for each query, in any order; -1 stands for none.
    """
    places, columns = np.nonzero(candidates >= 0)
    pairs = _Pairs(places, candidates[places, columns])
    return _merged(_nobody(len(queries), k), pairs, _distances(queries, vectors, pairs))


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Queries and rows that may be their neighbours: pair i is query ``queries[i]`` with row ``rows[i]``."""

    queries: Rows
    rows: Rows


def _nobody(n_queries: int, k: int) -> Neighbours:
    return Neighbours(np.full((n_queries, k), -1, np.int64), np.full((n_queries, k), np.inf))


def _nearest(queries: Vectors, vectors: Vectors, k: int) -> Neighbours:
    found = _nobody(len(queries), k)
    for start, block in _blocks(vectors):
        products = queries @ block.T  # (n_queries, rows of the block)
        full = np.isfinite(found.distances[:, -1]).all()
        floor = _floor_of_best(queries, found) if full else _floor_of_block(queries, products, k)
        near = products >= np.nextafter(floor.astype(np.float32), np.float32(-np.inf))[:, None]
        places, columns = np.divmod(np.flatnonzero(near), len(block))
        distances = _distances(queries, block, _Pairs(places, columns))
        found = _merged(found, _Pairs(places, columns + start), distances)
    return found


def _blocks(vectors: Vectors) -> Iterator[tuple[int, Vectors]]:
    for start in range(0, len(vectors), _ROWS):
        yield start, np.asarray(vectors[start : start + _ROWS])


def _rounding(queries: Vectors) -> NDArray[np.float64]:
    """Most that a float32 product with a reference vector is off, whatever the order of its sum.

    Higham, Accuracy and Stability of Numerical Algorithms, section 3.1: dim roundings of 2^-24 each. The lengths of the
    reference vectors are off too.
    """
    lengths = np.linalg.norm(queries.astype(np.float64), axis=1)
    rounding: NDArray[np.float64] = (lengths + 1) * ((queries.shape[1] + 2) * 2.0**-24 + NORM_SLACK) * 1.01
    return rounding


def _floor_of_best(queries: Vectors, found: Neighbours) -> NDArray[np.float64]:
    """Smallest product that a row can have which is as near as the last neighbour so far."""
    squares = (queries.astype(np.float64) ** 2).sum(axis=1)
    floor: NDArray[np.float64] = (squares + 1 - found.distances[:, -1]) / 2 - _rounding(queries)
    return floor


def _floor_of_block(queries: Vectors, products: Vectors, k: int) -> NDArray[np.float64]:
    """Smallest product that one of the k nearest rows of this block can have."""
    if products.shape[1] <= k:
        return np.full(len(queries), -np.inf)
    last = np.partition(products, products.shape[1] - k, axis=1)[:, -k]
    floor: NDArray[np.float64] = last - 2 * _rounding(queries)
    return floor


def _distances(queries: Vectors, vectors: Vectors, pairs: _Pairs) -> NDArray[np.float64]:
    """Squared distance of each pair. A sum over one row is the same whatever rows are summed with it."""
    found = np.empty(len(pairs.rows))
    for start in range(0, len(found), _PAIRS):
        some = slice(start, start + _PAIRS)
        apart = vectors[pairs.rows[some]].astype(np.float64)
        apart -= queries[pairs.queries[some]]
        found[some] = np.square(apart, out=apart).sum(axis=1)
    return found


def _merged(found: Neighbours, pairs: _Pairs, distances: NDArray[np.float64]) -> Neighbours:
    """The nearest of those found so far and of new pairs."""
    n_queries, k = found.rows.shape
    queries = np.concatenate([np.repeat(np.arange(n_queries), k), pairs.queries])
    rows = np.concatenate([found.rows.ravel(), pairs.rows])
    apart = np.concatenate([found.distances.ravel(), distances])
    order = np.lexsort((rows, apart, queries))
    first = np.searchsorted(queries[order], np.arange(n_queries))
    chosen = order[first[:, None] + np.arange(k)]  # each query has at least the k it came with
    return Neighbours(rows[chosen], apart[chosen])
