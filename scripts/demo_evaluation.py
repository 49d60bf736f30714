"""How good the demo model is: its answers and the neighbourhoods of its embeddings, beside those of PCA.

In: cells, and vectors and logits for them, from wherever. Out: plain dicts of figures for JSON. PCA sees the same
genes of the same cells, as logarithms of counts per 10,000; nearest neighbours are found in the same way for both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from demo_data import DataSet
from demo_labels import LABELS, Types
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.metrics import f1_score, precision_recall_fscore_support
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from training.cells import log_normalised

from scgpt_runtime.vocab import Vocabulary, match

NEIGHBOURS = 10
FOLDS = 5
COMPONENTS = 50
OTHER = "(another type)"

Vectors = NDArray[np.float32]
Names = NDArray[np.str_]
Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    """What a model says of cells: unit vectors (n_cells, dim) and class logits (n_cells, n_labels)."""

    vectors: Vectors
    logits: Vectors


def in_words(logits: Vectors, types: Mapping[str, Types]) -> Names:
    """The model's answer for each cell, in the words of a data set."""
    word = {label: name for name, labels in types.items() for label in labels}
    return np.array([word.get(LABELS[answer], OTHER) for answer in logits.argmax(axis=1)])


def scores(true: Names, told: Names) -> Figures:
    """Accuracy, macro-F1 over the types that are there, and how each of them fares."""
    names = sorted(set(true.tolist()))
    precision, recall, f1, support = precision_recall_fscore_support(true, told, labels=names, zero_division=0)
    rows = zip(names, support.tolist(), precision.tolist(), recall.tolist(), f1.tolist(), strict=True)
    return {
        "cells": len(true),
        "accuracy": float((true == told).mean()),
        "macro_f1": float(f1.mean()),
        "types": {
            name: {"support": n, "precision": round(p, 4), "recall": round(r, 4), "f1": round(f, 4)}
            for name, n, p, r, f in rows
        },
    }


def neighbours_within(vectors: Vectors, true: Names) -> Figures:
    """Each cell's type by its nearest neighbours in the other folds; types with fewer cells than folds are left out."""
    names, counts = np.unique(true, return_counts=True)
    some = np.isin(true, names[counts >= FOLDS])
    vectors, true = vectors[some], true[some]
    told = np.empty_like(true)
    for seen, asked in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(vectors, true):
        told[asked] = _classifier(vectors[seen], true[seen]).predict(vectors[asked])
    return _short(true, told)


def neighbours_across(reference: Vectors, known: Names, vectors: Vectors, true: Names) -> Figures:
    """Each cell's type by its nearest neighbours among cells of other donors or data sets."""
    return _short(true, _classifier(reference, known).predict(vectors))


def _classifier(vectors: Vectors, true: Names) -> KNeighborsClassifier:
    return KNeighborsClassifier(NEIGHBOURS, algorithm="brute").fit(vectors, true)


def _short(true: Names, told: Names) -> Figures:
    names = sorted(set(true.tolist()))
    f1 = f1_score(true, told, labels=names, average="macro", zero_division=0)
    return {"cells": len(true), "accuracy": float((true == told).mean()), "macro_f1": float(f1)}


def components(fitted: DataSet, asked: Sequence[DataSet], tokens: Vocabulary | None) -> list[Vectors]:
    """Principal components, fitted to one data set, of several.

    Parameters
    ----------
    fitted
        Cells that the axes are found with.
    asked
        Cells that are projected.
    tokens
        Use the genes of this vocabulary alone; None: all that the data sets share.
    """
    shared = set.intersection(*(set(cells.genes) for cells in (fitted, *asked)))
    if tokens is not None:
        shared &= {fitted.genes[i] for i in np.flatnonzero(match(fitted.genes, tokens).columns >= 0)}
    genes = sorted(shared)

    def logged(cells: DataSet) -> Vectors:
        place = {gene: column for column, gene in enumerate(cells.genes)}
        return log_normalised(cells.counts, np.array([place[gene] for gene in genes]))

    pca = PCA(COMPONENTS, svd_solver="randomized", random_state=0).fit(logged(fitted))
    return [pca.transform(logged(cells)).astype(np.float32) for cells in asked]


@dataclass(frozen=True, slots=True)
class Question:
    """A data set that judges.

    Attributes
    ----------
    name
        Key in the figures.
    cells
        The cells; those whose `true` is empty are not judged.
    true
        (n_cells,) types.
    types
        Each type and the model's labels that stand for it.
    reference
        Cells of the training data that neighbours are also looked for among.
    """

    name: str
    cells: DataSet
    true: Names
    types: Mapping[str, Types]
    reference: DataSet


def known_types(cells: DataSet, types: Mapping[str, Types]) -> Names:
    """Types of training cells in the words of a data set that judges; empty where their label does not decide."""
    known = np.full(cells.n_cells, "", dtype=object)
    for name, labels in types.items():
        inside = np.array([label in labels for label in LABELS])
        known[cells.allowed.any(axis=1) & ~cells.allowed[:, ~inside].any(axis=1)] = name
    return known.astype(str)


def judge(question: Question, told: Told, reference: Told, tokens: Vocabulary) -> Figures:
    """Every figure of one data set."""
    asked = question.true != ""
    true = question.true[asked]
    cells = question.cells.take(asked)
    known = known_types(question.reference, question.types)
    usable = known != ""
    found: Figures = {
        "classifier": scores(true, in_words(told.logits[asked], question.types)),
        "within": {"embedding": neighbours_within(told.vectors[asked], true)},
        "across": {
            "embedding": neighbours_across(reference.vectors[usable], known[usable], told.vectors[asked], true),
            "reference": {"name": question.reference.name, "cells": int(usable.sum())},
        },
    }
    for name, genes in (("pca", tokens), ("pca_all_genes", None)):
        (own,) = components(cells, [cells], genes)
        found["within"][name] = neighbours_within(own, true)
        near, far = components(question.reference, [question.reference, cells], genes)
        found["across"][name] = neighbours_across(near[usable], known[usable], far, true)
    return found


def validation_figure(cells: DataSet, logits: Vectors) -> float:
    """Mean of accuracy and of recall averaged over types, where any label that a cell's own stands for is right."""
    labelled = cells.allowed.any(axis=1)
    right = cells.allowed[np.arange(cells.n_cells), logits.argmax(axis=1)][labelled]
    types = cells.types[labelled]
    recalls = [right[types == name].mean() for name in np.unique(types)]
    return float((right.mean() + np.mean(recalls)) / 2)
