"""Neighbours vote: labels and distances of the nearest reference cells in, ranked labels of each query out.

Arrays alone; it knows neither how the neighbours were found nor what the labels mean.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

__all__ = ["WEIGHTS", "Weights", "ranked"]

Weights = Literal["majority", "distance"]

WEIGHTS: tuple[Weights, ...] = get_args(Weights)
"""``majority``: a neighbour has one vote, as in the original. ``distance``: it has 1 / distance votes."""

Codes = NDArray[np.int32]
Floats = NDArray[np.float64]


def ranked(
    codes: Codes, distances: Floats, top: int, weights: Weights = "majority"
) -> tuple[Codes, NDArray[np.float32]]:
    """Labels by the votes of the neighbours.

    With ``distance`` a vote weighs 1 / (Euclidean distance), and neighbours at distance zero, where there are any, vote
    alone: the rule of scikit-learn's ``KNeighborsClassifier(weights="distance")``.

    Parameters
    ----------
    codes
        (n_queries, k) label of each neighbour; -1 for one that does not vote.
    distances
        (n_queries, k) squared Euclidean distances.
    top
        How many labels of each query.
    weights
        What a vote weighs.

    Returns
    -------
    codes
        (n_queries, top) labels by weight of votes. Equal weight: the smaller sum of squared distances, then the smaller
        code. -1 where there are fewer labels.
    confidences
        (n_queries, top) share of all votes of the query, NaN where there are fewer labels.
    """
    distances = np.where(codes >= 0, distances, np.inf)
    votes = np.where(codes >= 0, 1.0, 0.0) if weights == "majority" else _by_distance(distances)  # (n, k)
    same = codes[:, :, None] == codes[:, None, :]  # (n, k, k)
    weight = np.where(same, votes[:, None, :], 0.0).sum(axis=2)  # (n, k): of all votes for the label of a neighbour
    apart = np.where(same, distances[:, None, :], 0.0).sum(axis=2)
    repeats = np.tril(same, -1).any(axis=2) | (codes < 0)  # an earlier neighbour stands for this label
    order = np.lexsort((codes, apart, -weight, repeats), axis=1)[:, :top]
    chosen = np.take_along_axis(codes, order, axis=1)
    total = votes.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # nobody voted
        shares = np.take_along_axis(weight, order, axis=1) / total
    none = np.take_along_axis(repeats, order, axis=1)
    missing = ((0, 0), (0, top - order.shape[1]))
    return (
        np.pad(np.where(none, -1, chosen).astype(np.int32), missing, constant_values=-1),
        np.pad(np.where(none, np.nan, shares).astype(np.float32), missing, constant_values=np.nan),
    )


def _by_distance(distances: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        inverse = 1 / np.sqrt(distances)
    touching = np.isinf(inverse)
    weights: Floats = np.where(touching.any(axis=1, keepdims=True), touching, inverse)
    return weights
