"""`ReferenceLabeller`: cell vectors in, the labels of their nearest reference cells out, ranked by votes.

It knows how to ask a reference and to count votes; where the reference lies and what the vectors are it does not know.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.reference.exact import Neighbours
from scgpt_infer.reference.votes import WEIGHTS, Weights, ranked
from scgpt_infer.writers.sink import Record
from scgpt_runtime.errors import OptionError

__all__ = ["Reference", "ReferenceLabeller"]


class Reference(Protocol):
    """Labelled cells that can be searched: `ReferenceIndex`, `Atlas`."""

    @property
    def default_k(self) -> int:
        """Neighbours that vote where nobody says how many."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of all labels, sorted."""
        ...

    @property
    def n_cells(self) -> int:
        """Number of reference cells."""
        ...

    @property
    def facts(self) -> Record:
        """What decides its answers."""
        ...

    def check(self, vector_id: str) -> None:
        """Raise `ReferenceMismatchError` where vectors of this id cannot be compared with those of the reference."""

    def search(self, queries: NDArray[np.float32], k: int) -> Neighbours:
        """The nearest cells of (n_queries, dim) unit vectors."""
        ...

    def labels_of(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Place in `labels` of each row's label, -1 where there is none."""
        ...

    def close(self) -> None:
        """Let go of it."""


class ReferenceLabeller:
    """Labels by the nearest cells of a reference.

    Parameters
    ----------
    reference
        Open.
    k
        Neighbours that vote. None: the reference's default.
    weights
        What a vote weighs, see `scgpt_infer.reference.votes`.

    Raises
    ------
    OptionError
        When a value is not allowed.
    """

    def __init__(self, reference: Reference, k: int | None = None, weights: Weights = "majority") -> None:
        if k is not None and k < 1:
            raise OptionError(f"k is {k}; expected at least 1 neighbour.")
        if weights not in WEIGHTS:
            raise OptionError(f"weights is {weights!r}; expected one of {', '.join(WEIGHTS)}.")
        self.reference = reference
        self.k = reference.default_k if k is None else k
        self.weights: Weights = weights

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels that it may give."""
        return self.reference.labels

    @property
    def facts(self) -> Record:
        """What decides its answers."""
        return {"from": "reference", **self.reference.facts, "k": self.k, "weights": self.weights}

    def ranked(
        self, raw: NDArray[np.float32], unit: NDArray[np.float32], top: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The labels of the nearest cells, by votes.

        Parameters
        ----------
        raw
            Not looked at.
        unit
            (n_cells, dim) unit vectors.
        top
            How many labels of each cell.

        Returns
        -------
        codes
            (n_cells, top) int32 places in `labels`, best first, -1 where the neighbours have fewer.
        confidences
            (n_cells, top) share of the votes, NaN where there are fewer.
        """
        found = self.reference.search(unit, self.k)
        return ranked(self.reference.labels_of(found.rows), found.distances, top, self.weights)
