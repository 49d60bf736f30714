"""The figures of an evaluation as plain data, and as JSON. It computes nothing but counts of its own parts."""

import json
from dataclasses import asdict, dataclass

__all__ = [
    "PRECISE",
    "Confidences",
    "Confusion",
    "Evaluation",
    "GroupFigures",
    "Kept",
    "Mean",
    "TypeFigures",
    "Unanswerable",
]

PRECISE = 0.8
"""Precision above which a cell type counts as told precisely: what the scGPT model card reports for most types."""


@dataclass(frozen=True, slots=True)
class Mean:
    """Precision, recall and F1 over several types."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class TypeFigures:
    """One true label.

    Attributes
    ----------
    label
        The label, in the words of the cells.
    precision
        Share of right answers among the judged cells that were told it; 0 where none was.
    recall
        Share of its own cells that were told it.
    f1
        Harmonic mean of both.
    cells
        Cells that have it.
    told
        Judged cells that were told it.
    strangers
        Cells of types that the model cannot answer that were told it; precision does not count them.
    """

    label: str
    precision: float
    recall: float
    f1: float
    cells: int
    told: int
    strangers: int


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """The judged cells that have one value in a column: accuracy, mean F1 of the types there, share told unknown."""

    column: str
    value: str
    accuracy: float
    macro_f1: float
    unknown: float
    cells: int


@dataclass(frozen=True, slots=True)
class Unanswerable:
    """A true label that no label of the model stands for.

    Attributes
    ----------
    label
        The label, in the words of the cells.
    cells
        Cells that have it.
    unknown
        Share of them that were told unknown, as they should be.
    most
        What most of the others were told; empty where all were told unknown.
    """

    label: str
    cells: int
    unknown: float
    most: str


@dataclass(frozen=True, slots=True)
class Kept:
    """The answers of at least some confidence: their share of the answered cells, and how many of them are right."""

    confidence: float
    share: float
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Confidences:
    """How far confidence can be trusted, over the judged cells that have an answer and a confidence.

    Attributes
    ----------
    right, wrong
        Mean confidence of right and of wrong answers; None where there are none.
    calibration_error
        Mean distance between confidence and accuracy over ten equal steps of confidence, weighted by cells: the
        expected calibration error (Guo et al. 2017, arXiv:1706.04599).
    kept
        What remains at rising confidence.
    cells
        Cells that were counted.
    """

    right: float | None
    wrong: float | None
    calibration_error: float
    kept: tuple[Kept, ...]
    cells: int


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts of true labels (rows) by what was told (columns); columns begin with the labels that can be answered.

    An answer that is right for a label is told as that label; one that is right for none keeps the model's word.
    """

    true: tuple[str, ...]
    told: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How right the labels of some cells are.

    Attributes
    ----------
    cells
        All cells.
    without_truth
        Those without a true label, which are left out.
    judged
        Those whose true label the model can answer: all figures but the confusion matrix are of these.
    accuracy
        Share of right answers; unknown is none.
    accuracy_of_all
        The same over all cells with a true label, those that cannot be answered counted as wrong.
    unknown
        Share that was told unknown.
    accuracy_of_known
        Share of right answers among the others; None where there are no others.
    macro, weighted
        Means over the types, each counted once, or by its cells.
    types
        One entry a type.
    unanswerable
        True labels that the model cannot answer.
    groups
        One entry a column and value.
    confidences
        None where no confidence was given.
    confusion
        Of all cells with a true label.
    """

    cells: int
    without_truth: int
    judged: int
    accuracy: float
    accuracy_of_all: float
    unknown: float
    accuracy_of_known: float | None
    macro: Mean
    weighted: Mean
    types: tuple[TypeFigures, ...]
    unanswerable: tuple[Unanswerable, ...]
    groups: tuple[GroupFigures, ...]
    confidences: Confidences | None
    confusion: Confusion

    @property
    def precise(self) -> int:
        """How many types exceed a precision of `PRECISE`."""
        return sum(found.precision > PRECISE for found in self.types)

    def to_json(self) -> str:
        """One JSON object."""
        told = asdict(self) | {"precise_types": {"above": PRECISE, "types": self.precise, "of": len(self.types)}}
        return json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False)

    def report(self) -> str:
        """The figures for people, several lines."""
        from scgpt_infer.evaluation.text import report

        return report(self)
