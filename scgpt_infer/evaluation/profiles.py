"""How near a predicted profile of expression comes to a measured one: `compare`, and what it is made of.

In: mean profiles of one perturbation, predicted and measured, and the controls'. Out: figures. Functions of arrays
alone: they know no model, no file and no name of a gene. A figure that is not defined, such as a correlation with a
constant, is None.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "THRESHOLD",
    "TOP",
    "Directions",
    "Moments",
    "ProfileFigures",
    "average",
    "compare",
    "directions",
    "most_changed",
    "pearson",
    "welch_t",
]

TOP = 20
"""Genes that count as differentially expressed, as in GEARS (inference.py, ``top_20_de``)."""

THRESHOLD = 0.1
"""A mean that moves by no more than this, in units of log1p(counts per 10,000), has not changed."""

Profile = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Moments:
    """What a test needs to know of a group of cells.

    Attributes
    ----------
    n_cells
        Cells of the group.
    mean, variance
        (n_genes,) float64; the variance with n - 1, zero for a single cell.
    """

    n_cells: int
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Directions:
    """How right the directions of change are, up and down counted together (micro average of the two classes).

    Attributes
    ----------
    precision
        Of the genes that were told to change, the share that changes so; None where none was.
    recall
        Of the genes that change, the share that was told to change so; None where none does.
    f1
        2 x right / (told + changed); None where both are none.
    told, changed
        Genes that were told to change, and that do.
    """

    precision: float | None
    recall: float | None
    f1: float | None
    told: int
    changed: int


@dataclass(frozen=True, slots=True)
class ProfileFigures:
    """Figures of one predicted profile, or means of several.

    Attributes
    ----------
    pearson, pearson_top
        Correlation with the measured profile, over all genes and over the `TOP` most changed.
    pearson_change, pearson_change_top
        The same of the changes from the control profile (delta Pearson).
    mse, mse_top
        Mean squared difference.
    precision, recall, f1
        Of the directions of change.
    """

    pearson: float | None
    pearson_change: float | None
    pearson_top: float | None
    pearson_change_top: float | None
    mse: float | None
    mse_top: float | None
    precision: float | None
    recall: float | None
    f1: float | None


def welch_t(group: Moments, control: Moments) -> NDArray[np.float64]:
    """(n_genes,) Welch's t of the difference of two means, infinite where nothing varies but the means differ.

    What scanpy's ``rank_genes_groups`` (method ``t-test``) ranks by, and with it GEARS. Zero for equal means.
    """
    difference = group.mean - control.mean
    spread = np.sqrt(group.variance / group.n_cells + control.variance / control.n_cells)
    with np.errstate(divide="ignore", invalid="ignore"):
        t: NDArray[np.float64] = np.where(difference == 0, 0.0, difference / spread)
    return t


def most_changed(group: Moments, control: Moments, n: int = TOP) -> NDArray[np.int64]:
    """(n,) places of the genes with the largest magnitude of `welch_t`, the largest first; of equal ones the former."""
    order = np.argsort(-np.abs(welch_t(group, control)), kind="stable")
    return order[:n].astype(np.int64)


def pearson(one: Profile, other: Profile) -> float | None:
    """Correlation of two profiles; None for fewer than two genes, or where one of them is constant."""
    x, y = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x * x).sum()) * np.sqrt((y * y).sum()))
    return None if scale == 0 else float(np.clip((x * y).sum() / scale, -1, 1))


def directions(true_change: Profile, told_change: Profile, threshold: float = THRESHOLD) -> Directions:
    """Hold the directions of two changes against each other; see `Directions`.

    Parameters
    ----------
    true_change, told_change
        (n_genes,) changes of means from the control.
    threshold
        A gene goes up or down where its change is larger than this, else it is unchanged.
    """
    true, told = _direction(true_change, threshold), _direction(told_change, threshold)
    right = int(np.count_nonzero((true == told) & (true != 0)))
    changed, claimed = int(np.count_nonzero(true)), int(np.count_nonzero(told))
    return Directions(
        precision=right / claimed if claimed else None,
        recall=right / changed if changed else None,
        f1=2 * right / (claimed + changed) if claimed + changed else None,
        told=claimed,
        changed=changed,
    )


def compare(
    true: Profile, told: Profile, control: Profile, top: NDArray[np.int64], threshold: float = THRESHOLD
) -> ProfileFigures:
    """Judge one predicted profile.

    Parameters
    ----------
    true, told, control
        (n_genes,) mean profiles: measured after the perturbation, predicted, and of the controls.
    top
        Places of the genes that count as differentially expressed, from `most_changed`.
    threshold
        See `directions`.
    """
    true, told, control = (np.asarray(profile, np.float64) for profile in (true, told, control))
    change, told_change = true - control, told - control
    found = directions(change, told_change, threshold)
    squares = (told - true) ** 2
    return ProfileFigures(
        pearson=pearson(true, told),
        pearson_change=pearson(change, told_change),
        pearson_top=pearson(true[top], told[top]),
        pearson_change_top=pearson(change[top], told_change[top]),
        mse=float(squares.mean()) if len(squares) else None,
        mse_top=float(squares[top].mean()) if len(top) else None,
        precision=found.precision,
        recall=found.recall,
        f1=found.f1,
    )


def average(found: Sequence[ProfileFigures]) -> ProfileFigures:
    """Means over perturbations, each of those in which the figure is defined; None where it is in none."""
    means = {}
    for field in fields(ProfileFigures):
        values = [value for one in found if (value := getattr(one, field.name)) is not None]
        means[field.name] = float(np.mean(values)) if values else None
    return ProfileFigures(**means)


def _direction(change: Profile, threshold: float) -> NDArray[np.int8]:
    change = np.asarray(change, np.float64)
    return (change > threshold).astype(np.int8) - (change < -threshold).astype(np.int8)
