"""The demo model on the real cells that ship with it: their embeddings, its answers, and how good they are.

In: nothing but what ships. Out: `Showing`, and a picture where the report extra is there. It prints nothing.
"""

import importlib.util
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anndata
import numpy as np
from numpy.typing import NDArray

from scgpt_infer import demo
from scgpt_infer.options import MIN_MATCH
from scgpt_infer.readers import open_cells
from scgpt_infer.spans import grid
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.vocab import choose

__all__ = [
    "NEIGHBOURS",
    "Judged",
    "Showing",
    "TypeFigures",
    "can_draw",
    "draw",
    "judged",
    "neighbour_accuracy",
    "show",
    "verdict",
]

_THE_SAME_EVERYWHERE = EngineOptions(precision="fp32")
"""What ``auto`` takes depends on the processor, and so would the published figures."""

NEIGHBOURS = 10
"""Neighbours that vote in the k-nearest-neighbour figure."""

OTHER = "other"
"""Main type of an answer that none of the published labels stands for."""


@dataclass(frozen=True, slots=True)
class TypeFigures:
    """How the model did on one published type: cells of it, cells that it called so, and the F1 of the two."""

    cells: int
    answered: int
    f1: float


@dataclass(frozen=True, slots=True)
class Judged:
    """How the model did on one data set when it was built, as in its model card.

    Attributes
    ----------
    name, cells
        The data set, and its labelled cells.
    accuracy, macro_f1
        Of the classifier.
    within, within_pca
        Accuracy of nearest neighbours in the same data set: of the embedding, and of the better PCA.
    across, across_pca
        The same with neighbours among training cells, of other donors or studies.
    """

    name: str
    cells: int
    accuracy: float
    macro_f1: float
    within: float
    within_pca: float
    across: float
    across_pca: float


@dataclass(frozen=True, slots=True)
class Showing:
    """The demo's result.

    Attributes
    ----------
    vectors
        (n_cells, dim) float32 of unit length.
    published, answers
        Main type by the published labels, and by the model's answer, a cell.
    accuracy
        Share of answers that agree with the published label.
    macro_f1
        Mean F1 of the types.
    neighbour_accuracy
        Share of cells whose nearest neighbours in the embedding vote for the cell's own type.
    types
        Figures of each published type.
    vector_id, ran_on
        Id of the vectors, and what computed them and why.
    seconds
        From opening the model to the last vector.
    """

    vectors: NDArray[np.float32]
    published: tuple[str, ...]
    answers: tuple[str, ...]
    accuracy: float
    macro_f1: float
    neighbour_accuracy: float
    types: dict[str, TypeFigures]
    vector_id: str
    ran_on: str
    seconds: float

    def plain(self) -> dict[str, Any]:
        """Everything but the cells, for JSON."""
        return {
            "cells": len(self.published),
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "neighbour_accuracy": self.neighbour_accuracy,
            "neighbours": NEIGHBOURS,
            "types": {name: asdict(figures) for name, figures in self.types.items()},
            "vector_id": self.vector_id,
            "ran_on": self.ran_on,
            "seconds": self.seconds,
        }


def show(cells_path: Path = demo.CELLS, bundle_path: Path = demo.BUNDLE) -> Showing:
    """Embed and annotate the shipped cells, and compare with their published labels."""
    began = time.perf_counter()
    bundle = Bundle.open(bundle_path)
    cells = anndata.read_h5ad(cells_path)
    with Engine.open(bundle, _THE_SAME_EVERYWHERE) as engine:
        raw = _embed(engine, cells)
        answers = _annotate(engine, raw)
        told = engine.vector_id, engine.choice.why
    seconds = time.perf_counter() - began
    vectors = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    labels = [str(label) for label in cells.obs[demo.LABEL_COLUMN]]
    published = tuple(demo.TYPES[label][0] for label in labels)
    answered = tuple(_main_type(answer) for answer in answers)
    types = {name: _figures(name, published, answered) for name in sorted(set(published))}
    return Showing(
        vectors=vectors,
        published=published,
        answers=answered,
        accuracy=float(np.mean([demo.agrees(*pair) for pair in zip(labels, answers, strict=True)])),
        macro_f1=float(np.mean([figures.f1 for figures in types.values()])),
        neighbour_accuracy=neighbour_accuracy(vectors, published),
        types=types,
        vector_id=told[0],
        ran_on=told[1],
        seconds=seconds,
    )


def neighbour_accuracy(vectors: NDArray[np.float32], types: Sequence[str], neighbours: int = NEIGHBOURS) -> float:
    """Share of cells that their nearest neighbours by cosine, the cell itself left out, vote into its own type.

    Parameters
    ----------
    vectors
        (n_cells, dim) of unit length.
    types
        Type of each cell.
    neighbours
        Number that votes; a draw goes to the type that comes first by name.
    """
    names, codes = np.unique(np.asarray(types), return_inverse=True)
    likeness = vectors @ vectors.T  # (n_cells, n_cells)
    np.fill_diagonal(likeness, -np.inf)
    nearest = np.argsort(-likeness, axis=1, kind="stable")[:, :neighbours]
    votes = np.stack([(codes[nearest] == code).sum(axis=1) for code in range(len(names))], axis=1)
    return float((votes.argmax(axis=1) == codes).mean())


def judged(figures: Path = demo.FIGURES) -> list[Judged]:
    """What was measured when the model was built, on cells that its training never saw."""
    told = json.loads(figures.read_text(encoding="utf-8"))["judged"]
    return [
        Judged(
            name=name,
            cells=found["classifier"]["cells"],
            accuracy=found["classifier"]["accuracy"],
            macro_f1=found["classifier"]["macro_f1"],
            within=found["within"]["embedding"]["accuracy"],
            within_pca=_best_pca(found["within"]),
            across=found["across"]["embedding"]["accuracy"],
            across_pca=_best_pca(found["across"]),
        )
        for name, found in told.items()
    ]


def verdict(figures: Sequence[Judged]) -> str:
    """In one sentence, whether neighbours in the embedding are better than neighbours among principal components."""
    pairs = [pair for found in figures for pair in ((found.within, found.within_pca), (found.across, found.across_pca))]
    beaten = sum(embedding > components for embedding, components in pairs)
    return f"Neighbours in the embedding beat the better PCA in {beaten} of {len(pairs)} comparisons."


def _best_pca(found: dict[str, Any]) -> float:
    """Accuracy of the better of two PCAs: of the genes that the model knows, and of all genes shared."""
    return max(float(told["accuracy"]) for name, told in found.items() if name.startswith("pca"))


def can_draw() -> bool:
    """Whether the packages of the report extra are installed."""
    return all(importlib.util.find_spec(name) for name in ("matplotlib", "umap"))


def draw(showing: Showing, picture: Path) -> None:
    """Write a UMAP of the embeddings, coloured by published type and by the model's answer.

    Parameters
    ----------
    showing
        What is shown.
    picture
        Where to write it; the suffix decides the format.
    """
    import umap
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # One job: umap warns that a fixed seed allows no more.
    places = umap.UMAP(metric="cosine", random_state=0, n_jobs=1).fit_transform(showing.vectors)  # (n_cells, 2)
    figure = Figure(figsize=(12, 5), layout="constrained")
    FigureCanvasAgg(figure)
    names = sorted({*showing.published, *showing.answers})
    for position, (title, types) in enumerate({"published": showing.published, "scGPT demo": showing.answers}.items()):
        axes = figure.add_subplot(1, 2, position + 1, title=title, xticks=[], yticks=[])
        for colour, name in enumerate(names):
            of_type = np.asarray(types) == name
            axes.scatter(places[of_type, 0], places[of_type, 1], s=8, color=f"C{colour}", label=name)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=150)


def _embed(engine: Engine, cells: anndata.AnnData) -> NDArray[np.float32]:
    """(n_cells, dim) vectors as the model gives them, which its classifier wants."""
    with open_cells(cells) as source:
        match = choose(source.gene_names, engine.vocabulary, "exact", None, MIN_MATCH)
        results = engine.run(source.blocks(grid(source.n_cells)), match.columns)
        return np.concatenate([result.outputs["cell"] for result in results])


def _annotate(engine: Engine, raw: NDArray[np.float32]) -> list[str]:
    """The classifier's answer for each cell."""
    classifier = engine.head("classify")
    (logits,) = classifier.feed({"cell": raw}).values()
    classifier.close()
    labels = engine.bundle.manifest.labels
    return [labels[number] for number in logits.argmax(axis=1)]


def _main_type(answer: str) -> str:
    return next((main for main, answers in demo.TYPES.values() if answer in answers), OTHER)


def _figures(name: str, published: Sequence[str], answered: Sequence[str]) -> TypeFigures:
    are, called = (np.asarray(types) == name for types in (published, answered))
    both = 2 * int((are & called).sum())
    return TypeFigures(int(are.sum()), int(called.sum()), both / max(int(are.sum() + called.sum()), 1))
