"""The annotation task: cell vectors in, the most likely labels of each cell out, beside its vector.

What knows labels is a `Labeller`: a classifier head (`Classifier`) or a reference. It opens no file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.tasks.embed import embedding
from scgpt_infer.writers.sink import Column, Kind, Part, Record
from scgpt_runtime.answering import GraphRunner
from scgpt_runtime.cells import Result

__all__ = ["UNKNOWN", "Annotation", "Classifier", "Labeller", "softmax"]

UNKNOWN = "unknown"
"""Label of a cell whose best label is not sure enough."""

Codes = NDArray[np.int32]
Vectors = NDArray[np.float32]


class Labeller(Protocol):
    """Knows the labels of cell vectors."""

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels that it may give."""
        ...

    @property
    def facts(self) -> Record:
        """What decides its answers."""
        ...

    def ranked(self, raw: Vectors, unit: Vectors, top: int) -> tuple[Codes, Vectors]:
        """The best labels of some cells.

        Parameters
        ----------
        raw, unit
            (n_cells, dim) the model's cell vectors, and the same at unit length; both finite.
        top
            How many labels of each cell.

        Returns
        -------
        codes
            (n_cells, top) int32 places in `labels`, best first, -1 where there are fewer.
        confidences
            (n_cells, top) float32 from 0 to 1, NaN where there are fewer.
        """
        ...


@dataclass(frozen=True, slots=True)
class Annotation:
    """Labels and vectors.

    Attributes
    ----------
    labeller
        What knows the labels.
    top
        Labels that are told of each cell, best first.
    unknown_below
        A cell whose best label has less confidence is called `UNKNOWN`.
    vectors
        Makes rows of vectors from the model's answers.
    """

    labeller: Labeller
    top: int
    unknown_below: float
    vectors: Callable[[Result], Part] = embedding

    @property
    def kind(self) -> Kind:
        """Cell types."""
        return "cell_types"

    @property
    def words(self) -> tuple[str, ...]:
        """All words that a label can be."""
        labels = self.labeller.labels
        return labels if UNKNOWN in labels else (*labels, UNKNOWN)

    @property
    def columns(self) -> tuple[Column, ...]:
        """``label`` and ``confidence``, then the candidates: ``label_1``, ``confidence_1``, and so on."""
        columns = [Column("label", self.words), Column("confidence")]
        for place in range(1, self.top + 1):
            columns += [Column(f"label_{place}", self.words), Column(f"confidence_{place}")]
        return tuple(columns)

    @property
    def facts(self) -> Record:
        """What decides the labels."""
        told: dict[str, str | int | float] = {"top": self.top, "unknown_below": self.unknown_below}
        return {f"annotation_{name}": value for name, value in {**self.labeller.facts, **told}.items()}

    def __call__(self, result: Result) -> Part:
        """Vectors and labels of a block. A cell without a vector has no label."""
        part = self.vectors(result)
        good = np.array([not reason for reason in part.reasons], bool)
        codes = np.full((part.n_cells, self.top), -1, np.int32)
        confidences = np.full((part.n_cells, self.top), np.nan, np.float32)
        if good.any():
            codes[good], confidences[good] = self.labeller.ranked(
                np.asarray(result.outputs["cell"], np.float32)[good], part.vectors[good], self.top
            )
        unsure = good & ~(confidences[:, 0] >= self.unknown_below)  # NaN, of a cell that nothing has a label for, too
        best = np.where(unsure, self.words.index(UNKNOWN), codes[:, 0])
        columns = {"label": best.astype(np.int32), "confidence": confidences[:, 0]}
        for place in range(self.top):
            columns |= {f"label_{place + 1}": codes[:, place], f"confidence_{place + 1}": confidences[:, place]}
        return Part(part.first_row, part.vectors, part.reasons, columns)


@dataclass(frozen=True, slots=True)
class Classifier:
    """A classifier head of a bundle: its confidence is the probability that the head gives.

    Attributes
    ----------
    head
        The open ``classify`` graph: ``cell`` to logits.
    labels
        Names of its classes, in their order.
    facts
        What it is, for the record.
    """

    head: GraphRunner
    labels: tuple[str, ...]
    facts: Record

    def ranked(self, raw: Vectors, unit: Vectors, top: int) -> tuple[Codes, Vectors]:
        """The classes of highest probability; equal ones in the order of the labels."""
        (logits,) = self.head.feed({"cell": np.ascontiguousarray(raw)}).values()
        probabilities = softmax(logits)
        codes = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
        found = np.take_along_axis(probabilities, codes, axis=1)
        missing = ((0, 0), (0, top - codes.shape[1]))
        return (
            np.pad(codes.astype(np.int32), missing, constant_values=-1),
            np.pad(found.astype(np.float32), missing, constant_values=np.nan),
        )


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n_cells, n_classes) probabilities, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponents = np.exp(shifted)
    probabilities: NDArray[np.float64] = exponents / exponents.sum(axis=1, keepdims=True)
    return probabilities
