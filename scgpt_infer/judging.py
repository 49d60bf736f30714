"""How close two embeddings of the same cells are, and how well one tells cell types: distances, neighbours, answers.

In: plain arrays and label names. Out: plain figures. It knows no model and no file. scikit-learn does the work.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.errors import MissingDependencyError, OptionError

__all__ = [
    "FOLDS",
    "NEIGHBOURS",
    "OTHER",
    "Score",
    "answered",
    "folds",
    "kept",
    "meanings",
    "nearest",
    "score",
    "sklearn",
    "transferred",
    "unit",
]

NEIGHBOURS = 15
"""Neighbours that are compared, and that vote when labels are transferred."""

FOLDS = 5
"""Parts that labelled cells are split into: the labels of four are transferred to the fifth, in turn."""

OTHER = "(another class)"
"""What follows an answer that is right for no label and yet named like one."""

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Score:
    """Share of cells that got their own label, and the mean F1 of the labels, of so many cells."""

    accuracy: float
    macro_f1: float
    cells: int


def unit(vectors: Vectors) -> Vectors:
    """The same vectors at unit length; a row that is not finite, or zero, becomes zeros."""
    norm = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    good = np.isfinite(norm) & (norm > 0)
    return np.where(good, vectors / np.where(good, norm, 1), 0).astype(np.float32)


def nearest(vectors: Vectors, k: int = NEIGHBOURS) -> NDArray[np.int64]:
    """(n_cells, k) the nearest other cells of each cell by cosine, exactly.

    Parameters
    ----------
    vectors
        (n_cells, dim) of unit length.
    k
        At most all others are given.
    """
    neighbors = sklearn("neighbors")
    index = neighbors.NearestNeighbors(n_neighbors=min(k, len(vectors) - 1), algorithm="brute").fit(vectors)
    found: NDArray[np.int64] = index.kneighbors(return_distance=False)
    return found


def kept(found: NDArray[np.int64], expected: NDArray[np.int64]) -> float:
    """Share of the expected neighbours that are among those found, whatever their order: mean over the cells."""
    both = (found[:, :, None] == expected[:, None, :]).any(axis=1)  # (n_cells, k)
    return float(both.mean())


def transferred(vectors: Vectors, labels: Sequence[str], groups: Sequence[str] = (), k: int = NEIGHBOURS) -> Score:
    """How often a cell's nearest labelled cells vote for its own label, by cross-validation.

    Parameters
    ----------
    vectors
        (n_cells, dim) of unit length.
    labels
        Label of each cell. Those of fewer than `FOLDS` cells are left out.
    groups
        Batch of each cell: then no cell of a batch votes for another of it. Empty: cells are split at random, each
        label evenly, the same way each time.
    k
        Voting cells.

    Raises
    ------
    OptionError
        Too few cells, or one batch only.
    """
    true = np.asarray(labels)
    names, counts = np.unique(true, return_counts=True)
    some = np.isin(true, names[counts >= FOLDS])
    if not some.any():
        raise OptionError(f"No label has {FOLDS} cells, so labels cannot be transferred. Give more cells (--limit).")
    x, y = vectors[some], true[some]
    told = np.empty_like(y)
    classifier = sklearn("neighbors").KNeighborsClassifier(k, algorithm="brute")
    for seen, asked in folds(y, np.asarray(groups)[some] if len(groups) else None):
        classifier.set_params(n_neighbors=min(k, len(seen))).fit(x[seen], y[seen])
        told[asked] = classifier.predict(x[asked])
    return score(y.tolist(), told.tolist())


def meanings(
    labels: Iterable[str], classes: Sequence[str], told: Mapping[str, Sequence[str]], option: str
) -> dict[str, tuple[str, ...]]:
    """Label to the classes that are right for it; none for a label that the classifier cannot answer.

    Parameters
    ----------
    labels
        Labels of the cells.
    classes
        All that the classifier can answer.
    told
        What the user says of labels; one of which nothing is said means the class of its own name.
    option
        Where the user says it.

    Raises
    ------
    OptionError
        The user names a class that there is not.
    """
    unknown = sorted({name for names in told.values() for name in names} - set(classes))
    if unknown:
        raise OptionError(
            f"{option} names {', '.join(unknown)}, which the model's classifier does not; it knows "
            f"{', '.join(classes)}."
        )
    return {name: tuple(told.get(name, (name,) if name in classes else ())) for name in labels}


def answered(classes: Sequence[str], labels: Sequence[str], meaning: Mapping[str, Sequence[str]]) -> list[str]:
    """A classifier's answers in the words of the labels.

    Parameters
    ----------
    classes
        The classifier's answer for each cell.
    labels
        The cell's own label.
    meaning
        Label to the classes that are right for it. An answer that is right for several labels counts for the cell's
        own, if that is one of them. One that is right for none keeps its word, with `OTHER` if a label has the same.
    """
    word = {name: f"{name} {OTHER}" for name in meaning}
    word |= {name: label for label, names in reversed(list(meaning.items())) for name in names}
    pairs = zip(classes, labels, strict=True)
    return [label if found in meaning.get(label, ()) else word.get(found, found) for found, label in pairs]


def score(true: Sequence[str], told: Sequence[str]) -> Score:
    """Accuracy, and F1 averaged over the labels that are there."""
    f1 = sklearn("metrics").f1_score(true, told, labels=sorted(set(true)), average="macro", zero_division=0)
    return Score(float(np.mean(np.asarray(true) == np.asarray(told))), float(f1), len(true))


def sklearn(module: str, extra: str = "report") -> Any:
    """A module of scikit-learn.

    Parameters
    ----------
    module
        Its name.
    extra
        Extra that the caller's users install; several hold scikit-learn.

    Raises
    ------
    MissingDependencyError
        scikit-learn is not installed.
    """
    import importlib

    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError as error:
        raise MissingDependencyError(
            f'Judging labels needs scikit-learn, not installed here: pip install "scgpt-infer[{extra}]".'
        ) from error


def folds(labels: NDArray[np.str_], groups: NDArray[np.str_] | None = None) -> list[tuple[Rows, Rows]]:
    """Rows that are seen and rows that are asked, for each fold, the same ones each time.

    Parameters
    ----------
    labels
        Label of each cell.
    groups
        Batch of each cell, none of which two folds share. None: cells are split at random, each label evenly.

    Raises
    ------
    OptionError
        There is one batch only.
    """
    selection = sklearn("model_selection")
    if groups is None:
        _, counts = np.unique(labels, return_counts=True)
        split = selection.StratifiedKFold(min(FOLDS, counts.max()), shuffle=True, random_state=0)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)  # it is missing in some folds
            return list(split.split(labels, labels))
    n_groups = len(np.unique(groups))
    if n_groups < 2:
        raise OptionError(f"All cells are of one batch ({str(groups[0])!r}). Name a column with several, or none.")
    return list(selection.GroupKFold(min(FOLDS, n_groups)).split(labels, labels, groups))
