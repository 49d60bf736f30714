"""Runs of the sides -> figures: start-up, steady rate, whole time, spread over the rounds, likeness to fp32.

In: what the driver timed and what the sides marked. Out: plain numbers. It runs nothing.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Likeness", "Run", "Spread", "likeness", "spread"]

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Run:
    """One process of one side, from start to end.

    Attributes
    ----------
    process_seconds
        From the start of the process to its end.
    apart_seconds
        What is reported and not counted: loading the original's vocabulary.
    answers
        Moment, in seconds since the start of the process, and number of cells of each answer.
    peak_bytes
        Most memory that one process of the side has held.
    """

    process_seconds: float
    apart_seconds: float
    answers: tuple[tuple[float, int], ...]
    peak_bytes: int

    @property
    def n_cells(self) -> int:
        """Cells answered."""
        return sum(cells for _, cells in self.answers)

    @property
    def whole_seconds(self) -> float:
        """Process start to process end, less what is not counted."""
        return self.process_seconds - self.apart_seconds

    @property
    def start_seconds(self) -> float:
        """Process start to the first answer, less what is not counted."""
        return self.answers[0][0] - self.apart_seconds

    @property
    def steady_rate(self) -> float:
        """Cells a second from the first answer to the end of the process: all but the start, output written."""
        rest = self.n_cells - self.answers[0][1]
        return rest / (self.process_seconds - self.answers[0][0])

    @property
    def model_rate(self) -> float:
        """Cells a second from the first answer to the last one: no start, no end."""
        rest = self.n_cells - self.answers[0][1]
        return rest / (self.answers[-1][0] - self.answers[0][0]) if rest else float("nan")


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, smallest and largest of the rounds."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Median with spread; of an even number the mean of the middle two."""
    return Spread(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Likeness:
    """How like two sets of vectors are, cell by cell.

    Attributes
    ----------
    worst, median
        Cosine of the least like cell, and of the median one.
    largest
        Largest difference of an entry of the unit vectors.
    """

    worst: float
    median: float
    largest: float


def likeness(found: Vectors, expected: Vectors) -> Likeness:
    """Compare (n_cells, dim) vectors, rows in the same order.

    The cosine is 1 less half the squared distance of the unit vectors: a product would lose the last digits.
    """
    if found.shape != expected.shape:
        raise SystemExit(f"Found vectors of shape {found.shape}, expected {expected.shape}.")
    apart = _unit(found) - _unit(expected)
    cosine = 1 - (apart**2).sum(axis=1) / 2
    if not np.isfinite(cosine).all():
        return Likeness(float("nan"), float("nan"), float("nan"))
    return Likeness(float(cosine.min()), float(np.median(cosine)), float(np.abs(apart).max()))


def _unit(rows: Vectors) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    unit: NDArray[np.float64] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return unit
