"""`evaluate`: true labels and told ones in, figures out. scikit-learn computes them.

`scgpt_infer.judging` says which of the model's labels are right for a true one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scgpt_infer import judging
from scgpt_infer.evaluation.figures import (
    Confidences,
    Confusion,
    Evaluation,
    GroupFigures,
    Kept,
    Mean,
    TypeFigures,
    Unanswerable,
)
from scgpt_runtime.errors import OptionError

__all__ = ["evaluate"]

KEPT = (0.5, 0.7, 0.9, 0.95, 0.99)
STEPS = 10
ROUNDING = 1e-5  # what float32 shares of votes may add up to beyond 1
NOTHING = "(none)"

Text = NDArray[np.str_]
Mask = NDArray[np.bool_]


def evaluate(
    true: Sequence[str] | Text,
    told: Sequence[str] | Text,
    *,
    labels: Sequence[str] = (),
    confidence: ArrayLike | None = None,
    groups: Mapping[str, Sequence[str] | Text] = {},
    words: Mapping[str, Sequence[str]] = {},
    unknown: str = "unknown",
) -> Evaluation:
    """Hold told labels against true ones.

    Parameters
    ----------
    true
        (n_cells,) true label of each cell; empty, or `unknown`, where there is none.
    told
        (n_cells,) the model's label of each cell; empty counts as `unknown`.
    labels
        All labels that the model can give; none: those that it gave and those of `words`.
    confidence
        (n_cells,) how sure each label is, from 0 to 1; NaN where that is not known.
    groups
        Column name to the value of each cell, such as its donor: figures are given for each value.
    words
        True label to the model's labels that are right for it; others mean the label of their own name.
    unknown
        The model's word for a cell that it does not name.

    Raises
    ------
    OptionError
        Not one value a cell; a confidence is not between 0 and 1; no cell has a true label; `words` names labels that
        the model does not know; or the model can answer none of the true labels.
    MissingDependencyError
        scikit-learn is not installed.
    """
    metrics = judging.sklearn("metrics", "annotate")
    owns, answers = np.asarray(true, str), np.asarray(told, str)
    sure = np.full(len(owns), np.nan) if confidence is None else np.asarray(confidence, np.float64)
    columns = {name: np.asarray(values, str) for name, values in groups.items()}
    _check_lengths(len(owns), {"told": answers, "confidence": sure, **columns})
    _check_confidence(sure)
    cells = _understood(owns, answers, labels, words, unknown)
    types = _types(metrics, cells)
    return Evaluation(
        cells=len(owns),
        without_truth=int((~cells.some).sum()),
        judged=int(cells.asked.sum()),
        accuracy=float(cells.hit[cells.asked].mean()),
        accuracy_of_all=float(cells.hit[cells.some].mean()),
        unknown=float(1 - cells.known[cells.asked].mean()),
        accuracy_of_known=_mean(cells.hit[cells.asked & cells.known]),
        macro=_averaged(metrics, cells, "macro"),
        weighted=_averaged(metrics, cells, "weighted"),
        types=types,
        unanswerable=_unanswerable(cells),
        groups=_groups(cells, columns),
        confidences=None if confidence is None else _confidences(sure, cells),
        confusion=_confusion(cells, [found.label for found in types]),
    )


@dataclass(frozen=True, slots=True)
class _Cells:
    """True and told labels in the same words, (n_cells,), and which cells have a true label and can be answered."""

    true: Text
    told: Text
    some: Mask
    asked: Mask
    unknown: str

    @property
    def known(self) -> Mask:
        found: Mask = self.told != self.unknown
        return found

    @property
    def hit(self) -> Mask:
        found: Mask = self.asked & (self.true == self.told)
        return found


def _understood(
    true: Text, told: Text, labels: Sequence[str], words: Mapping[str, Sequence[str]], unknown: str
) -> _Cells:
    some = (true != "") & (true != unknown)
    if not some.any():
        raise OptionError("No cell has a true label: the column is empty. Name another column.")
    told = np.where(told == "", unknown, told)
    classes = {*labels} or {*told[some].tolist(), *(name for names in words.values() for name in names)}
    right = judging.meanings(np.unique(true[some]).tolist(), sorted(classes - {unknown}), words, "--names")
    if not any(right.values()):
        raise OptionError(
            f"The model can answer none of the true labels, which are {', '.join(right)}. Its own labels are "
            f"{', '.join(sorted(classes - {unknown}))}. Say which of them are right for a true label, as "
            '{"true label": ["label", "label"]}, with --names FILE.json.'
        )
    told = np.array(judging.answered(told.tolist(), true.tolist(), {**right, unknown: (unknown,)}), str)
    asked = some & np.isin(true, [name for name, found in right.items() if found])
    return _Cells(true, told, some, asked, unknown)


def _check_lengths(n_cells: int, values: Mapping[str, NDArray[Any]]) -> None:
    for name, found in values.items():
        if found.shape != (n_cells,):
            raise OptionError(f"There are {n_cells:,} true labels, and {name} has {len(found):,}. Give one a cell.")


def _check_confidence(sure: NDArray[np.float64]) -> None:
    wrong = sure[(sure < 0) | (sure > 1 + ROUNDING)]
    if len(wrong):
        raise OptionError(
            f"{len(wrong):,} confidences are not between 0 and 1, such as {wrong[0]:g}. Divide percentages by 100; NaN "
            "says that one is not known."
        )


def _types(metrics: Any, cells: _Cells) -> tuple[TypeFigures, ...]:
    true, told = cells.true[cells.asked], cells.told[cells.asked]
    strangers = cells.told[cells.some & ~cells.asked]
    names = np.unique(true).tolist()
    figures = metrics.precision_recall_fscore_support(true, told, labels=names, zero_division=0)
    return tuple(
        TypeFigures(
            label=name,
            precision=float(precision),
            recall=float(recall),
            f1=float(f1),
            cells=int(n_cells),
            told=int((told == name).sum()),
            strangers=int((strangers == name).sum()),
        )
        for name, precision, recall, f1, n_cells in zip(names, *figures, strict=True)
    )


def _averaged(metrics: Any, cells: _Cells, average: str) -> Mean:
    true, told = cells.true[cells.asked], cells.told[cells.asked]
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        true, told, labels=np.unique(true).tolist(), average=average, zero_division=0
    )
    return Mean(float(precision), float(recall), float(f1))


def _unanswerable(cells: _Cells) -> tuple[Unanswerable, ...]:
    found = []
    rows = cells.some & ~cells.asked
    for name in np.unique(cells.true[rows]).tolist():
        told = cells.told[rows & (cells.true == name)]
        others, counts = np.unique(told[told != cells.unknown], return_counts=True)
        most = str(others[counts.argmax()]) if len(others) else ""
        found.append(Unanswerable(name, len(told), float((told == cells.unknown).mean()), most))
    return tuple(found)


def _groups(cells: _Cells, columns: Mapping[str, Text]) -> tuple[GroupFigures, ...]:
    found = []
    for column, values in columns.items():
        for value in np.unique(values[cells.asked]).tolist():
            rows = cells.asked & (values == value)
            one = judging.score(cells.true[rows].tolist(), cells.told[rows].tolist())
            unknown = float(1 - cells.known[rows].mean())
            found.append(GroupFigures(column, value or NOTHING, one.accuracy, one.macro_f1, unknown, one.cells))
    return tuple(found)


def _confidences(sure: NDArray[np.float64], cells: _Cells) -> Confidences | None:
    """None where no answer has a confidence."""
    rows = cells.asked & cells.known & np.isfinite(sure)
    if not rows.any():
        return None
    sure, hit = sure[rows], cells.hit[rows]
    step = np.minimum((sure * STEPS).astype(int), STEPS - 1)
    gaps = [abs(sure[step == place].sum() - hit[step == place].sum()) for place in range(STEPS)]
    return Confidences(
        right=_mean(sure[hit]),
        wrong=_mean(sure[~hit]),
        calibration_error=float(sum(gaps) / len(sure)),
        kept=tuple(Kept(least, float((sure >= least).mean()), _mean(hit[sure >= least])) for least in KEPT),
        cells=len(sure),
    )


def _confusion(cells: _Cells, types: Sequence[str]) -> Confusion:
    true, told = cells.true[cells.some].tolist(), cells.told[cells.some].tolist()
    rows = [*types, *sorted({*true} - {*types})]
    columns = [*types, *sorted({*told} - {*types, cells.unknown}), *([cells.unknown] if cells.unknown in told else [])]
    row, column = ({name: place for place, name in enumerate(names)} for names in (rows, columns))
    counts = np.zeros((len(rows), len(columns)), np.int64)
    np.add.at(counts, ([row[name] for name in true], [column[name] for name in told]), 1)
    return Confusion(tuple(rows), tuple(columns), tuple(map(tuple, counts.tolist())))


def _mean(values: NDArray[Any]) -> float | None:
    return float(values.mean()) if len(values) else None
