"""`learn`, from cells to a sealed bundle, top to bottom: choose, embed, fit, judge, seal."""

import hashlib
import importlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scgpt_infer import judging
from scgpt_infer.evaluation import Evaluation, evaluate
from scgpt_infer.learning.choosing import Chosen, chosen
from scgpt_infer.learning.fitting import Fit, fit
from scgpt_infer.learning.learned import Learned
from scgpt_infer.learning.options import LearnOptions
from scgpt_infer.learning.sealing import sealed
from scgpt_infer.model import Model, Say, cells_of
from scgpt_infer.options import EmbedOptions
from scgpt_infer.readers import CellSource
from scgpt_infer.run import Progress
from scgpt_infer.some_rows import SomeRows
from scgpt_infer.tasks.annotate import UNKNOWN
from scgpt_infer.writers.folder import check_output
from scgpt_infer.writers.memory import MemorySink
from scgpt_runtime.digests import sha256_of
from scgpt_runtime.errors import InternalError
from scgpt_runtime.manifest import Taught, TaughtClass

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["learn"]

_SETTINGS = ("max_length", "seed", "ties", "sample", "genes")
_DEFAULTS = EmbedOptions()
_USUAL = LearnOptions()

_CHOSEN_ON_FOLDS = "C was chosen on the same folds: the figures are better by that choice, by little."
_UNFINISHED = "The solver did not come to its end. A smaller --c (c) regularises more and ends sooner."
_RANDOM_FOLDS = (
    "Cells of one donor are alike, and here the folds share donors: on other people's cells expect less. Where a "
    "column tells donors or batches, name it with --by."
)


def learn(
    cells: "AnnData | Path | str",
    label: str,
    output: Path | str,
    *,
    model: str | Path,
    options: EmbedOptions = _DEFAULTS,
    how: LearnOptions = _USUAL,
    progress: Progress | None = None,
    cache_dir: Path | None = None,
    say: Say | None = None,
) -> Learned:
    """Teach a model the types of labelled cells.

    Parameters
    ----------
    cells
        An AnnData object, or a file of cells whose format has columns of ``obs``.
    label
        Column of ``obs`` with the types; cells without one are left out, and so are those told ``unknown``.
    output
        The bundle to make: a folder, or a zip where it ends in ``.zip``. It must not exist.
    model
        A bundle or checkpoint, or ``demo``. A classifier that it has is replaced in the new bundle; the vectors, and
        their id, stay the same.
    options
        How to run the model, and how to read cells.
    how
        Which cells teach, and how.
    progress
        Told the cells that are embedded, and the cells in all.
    cache_dir, say
        See `scgpt_infer.Model.open`.

    Raises
    ------
    ScgptInferError
        See `scgpt_infer.errors`. However it ends, no partial bundle has the final name.
    """
    began, output = time.perf_counter(), Path(output)
    check_output(output)
    judging.sklearn("linear_model", "annotate")  # to miss it now costs less than after the cells are embedded
    with (
        cells_of(cells, options) as source,
        Model.open(model, replace(options, limit=None), cache_dir=cache_dir, say=say, when_needed=True) as opened,
    ):
        wanted = chosen(source, label, how, options.limit)
        sink, summary = opened.job(SomeRows(source, wanted.rows), reuse=not how.recompute).gathered(progress)
        found, vectors = _with_vectors(wanted, sink, how)
        fitted = fit(vectors, found.labels, found.groups, how)
        held_out = _judged(found, fitted, how)
        taught = _record(found, fitted, held_out, label, how)
        taught = replace(taught, vector_id=summary.vector_id, file=_digest(source), vectors=_content(found, vectors))
        manifest = sealed(opened.bundle, fitted, vectors, taught, output)
    return Learned(
        bundle=str(output),
        name=manifest.name,
        base=summary.model,
        taught=taught,
        held_out=held_out,
        tried=fitted.tried,
        vectors_from=summary.why,
        notes=tuple(_notes(found, fitted, how, options)),
        wall_seconds=time.perf_counter() - began,
    )


def _with_vectors(wanted: Chosen, sink: MemorySink, how: LearnOptions) -> tuple[Chosen, NDArray[np.float32]]:
    """The cells that the model could embed, and their vectors."""
    if sink.vectors is None:
        raise InternalError("The vectors were not kept.")
    good = np.asarray(np.isfinite(sink.vectors).all(axis=1))
    found = wanted.only(good, "no embedding", how)
    return found, sink.vectors[np.isin(wanted.rows, found.rows)]


def _judged(found: Chosen, fitted: Fit, how: LearnOptions) -> Evaluation:
    told = np.array(fitted.labels)[fitted.held_out.codes]
    groups = {} if how.by is None or found.groups is None else {how.by: found.groups}
    return evaluate(
        found.labels, told, labels=fitted.labels, confidence=fitted.held_out.confidence, groups=groups, unknown=UNKNOWN
    )


def _record(found: Chosen, fitted: Fit, held_out: Evaluation, label: str, how: LearnOptions) -> Taught:
    """What the bundle tells, but for digests and the id of the vectors."""
    sure = held_out.confidences
    if sure is None:
        raise InternalError("No held-out answer has a confidence.")
    classes = {one.label: one for one in held_out.types}
    return Taught(
        column=label,
        cells=len(found.rows),
        left_out=found.left_out,
        by=how.by or "",
        groups=0 if found.groups is None else len(np.unique(found.groups)),
        folds=fitted.held_out.folds,
        penalty="l2",
        regularisation=fitted.regularisation,
        balanced=how.balanced,
        vector_id="",
        file="",
        vectors="",
        scikit_learn=str(importlib.import_module("sklearn").__version__),
        accuracy=held_out.accuracy,
        macro_f1=held_out.macro.f1,
        weighted_f1=held_out.weighted.f1,
        confident=sure.kept[0].share,
        accuracy_of_confident=sure.kept[0].accuracy,
        calibration_error=sure.calibration_error,
        classes=tuple(
            TaughtClass(name, classes[name].cells, classes[name].precision, classes[name].recall, classes[name].f1)
            for name in fitted.labels
        ),
    )


def _digest(source: CellSource) -> str:
    return sha256_of(source.path) if source.path is not None and source.path.is_file() else ""


def _content(found: Chosen, vectors: NDArray[np.float32]) -> str:
    """sha256 of all that the classifier was fitted to."""
    digest = hashlib.sha256(json.dumps(found.labels.tolist()).encode())
    digest.update(np.ascontiguousarray(vectors, "<f4").data)
    return digest.hexdigest()


def _notes(found: Chosen, fitted: Fit, how: LearnOptions, options: EmbedOptions) -> Iterator[str]:
    other = [name for name in _SETTINGS if getattr(options, name) != getattr(_DEFAULTS, name)]
    if other:
        yield f"The vectors have other settings than the bundle ({', '.join(other)}): annotate with the same."
    if found.groups is None:
        yield _RANDOM_FOLDS
    else:
        nameless = int((found.groups == "").sum())
        if nameless:
            yield (
                f"{nameless:,} cells have no {how.by} and count as one: if others share theirs, the figures are "
                "optimistic for new ones."
            )
        pairs = np.unique(np.stack([found.labels, found.groups]), axis=1)[0]
        names, counts = np.unique(pairs, return_counts=True)
        if (counts == 1).any():
            yield (
                f"These classes are in one {how.by} alone: {', '.join(names[counts == 1])}. When their cells were "
                "judged nothing had taught them, so their figures say nothing of the classifier that was sealed."
            )
    if how.c is None and len(fitted.tried) > 1:
        yield _CHOSEN_ON_FOLDS
    if not fitted.converged:
        yield _UNFINISHED
