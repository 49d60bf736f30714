"""The jobs behind ``scgpt-infer integrate``: `integrate` in memory, `integrate_file` into a file, with scores.

In: cells, a model, the batch of each cell. Out: embeddings. A model that normalises by batch gives each cell the
statistics of its batch; any other embeds as ``embed`` does (zero-shot), and says so.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scgpt_infer import models
from scgpt_infer.abilities import require
from scgpt_infer.answers import Answers
from scgpt_infer.facts import Facts
from scgpt_infer.integration.answering import BatchFacts, LabelledEngine
from scgpt_infer.integration.batches import CellBatches, label_cells
from scgpt_infer.integration.options import IntegrateOptions
from scgpt_infer.integration.scores import Scores, check_installed, check_scorable, score
from scgpt_infer.job import Job, check_inplace
from scgpt_infer.model import Say, cells_of
from scgpt_infer.options import EmbedOptions
from scgpt_infer.output import check_key, destination
from scgpt_infer.readers import CellSource
from scgpt_infer.readers.source import CellPaths
from scgpt_infer.run import Progress
from scgpt_infer.summary import Summary
from scgpt_infer.tasks.embed import Embedding, embedding
from scgpt_infer.work import WorkOptions
from scgpt_infer.writers.memory import MemorySink
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.errors import OptionError
from scgpt_runtime.vocab import choose

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["MOST_SCORED", "Integrated", "integrate", "integrate_file", "integrate_json"]

MOST_SCORED = 20_000
"""Cells that are scored; of more, so many spread evenly over the file."""

_log = logging.getLogger(__name__)
_ALL = WorkOptions()
_DEFAULTS = EmbedOptions()


@dataclass(frozen=True, slots=True)
class Integrated:
    """What a run that integrated cells says of itself.

    Attributes
    ----------
    summary
        Of the run.
    batches
        Whose statistics cells had; None where the model has none, so that the vectors are those of ``embed``.
    scores
        How well batches mix and types stay apart; None where no cell types were named.
    """

    summary: Summary
    batches: CellBatches | None
    scores: Scores | None

    def to_json(self) -> str:
        """One JSON object: the summary's, with what is known of the batches."""
        told: dict[str, Any] = json.loads(self.summary.to_json())
        told["batches"] = None if self.batches is None else {**self.batches.facts, "cells": self.batches.counts}
        told["scores"] = None if self.scores is None else json.loads(self.scores.to_json())
        return json.dumps(told, allow_nan=False, ensure_ascii=False, indent=2)


def integrate(
    cells: "AnnData | CellPaths",
    *,
    model: models.AnyModel,
    batch: str | None = None,
    how: IntegrateOptions | None = None,
    options: EmbedOptions = _DEFAULTS,
    inplace: bool = False,
) -> "AnnData":
    """Embed cells of several batches into one space.

    Parameters
    ----------
    cells, model, inplace
        See `scgpt_infer.embed`.
    batch
        Column of ``obs`` with the batch of each cell. A model that normalises by batch needs it.
    how
        All that can be said of batches; `batch` is the short way to the first of it.
    options
        How to run the model, and how to read cells.

    Returns
    -------
    AnnData
        With what `scgpt_infer.embed` adds; ``uns["scgpt_infer"]`` says whose statistics cells had. NaN for a cell
        without a batch.

    Raises
    ------
    CellsError
        There is no such column, or it has a batch that the model does not know and there is no fallback.
    ScgptInferError
        See `scgpt_infer.errors`.
    """
    if batch is not None and how is not None:
        raise OptionError("batch and how both say where the batches are: give one of them.")
    how = _without_scores(how or IntegrateOptions(batch))
    check_inplace(cells, inplace, options)
    with _opened(cells, model, how, options, None, None) as opened:
        check_key(cells, opened.job.key)
        return opened.job.into_memory(cells, inplace)[0]


def integrate_json(
    cells: "AnnData | CellPaths", *, model: models.AnyModel, how: IntegrateOptions, options: EmbedOptions = _DEFAULTS
) -> str:
    """Embed cells of several batches; the text that `integrate_file` would write into a ``.json`` file.

    Parameters, and what is raised, are those of `integrate`.
    """
    with _opened(cells, model, _without_scores(how), options, None, None) as opened:
        return opened.job.document()


def _without_scores(how: IntegrateOptions) -> IntegrateOptions:
    if how.label is not None:
        raise OptionError("Scores are for files. Here, score with scgpt_infer.integration.score.")
    return how


def integrate_file(
    cells: CellPaths,
    output: Path | str | None,
    model: models.AnyModel,
    how: IntegrateOptions,
    options: EmbedOptions = _DEFAULTS,
    progress: Progress | None = None,
    *,
    work: WorkOptions = _ALL,
    cache_dir: Path | None = None,
    say: Say | None = None,
) -> Integrated:
    """Embed a file of cells of several batches, of any size, into another file; with ``label``, score the result.

    Parameters
    ----------
    cells, output, model, options, progress, work, cache_dir, say
        See `scgpt_infer.embed_file`.
    how
        Where the batch of each cell stands, and what the result is judged by.

    Raises
    ------
    ScgptInferError
        As for `integrate`; `MissingDependencyError` where scores were asked for and cannot be had.
    """
    work.check("integrate", "shard")
    if work.shard is not None and how.label is not None:
        raise OptionError(
            f"Shard {work.shard} alone cannot be scored. Leave label (--label) out, merge the shards, and score with "
            "scgpt_infer.integration.score."
        )
    path = destination(cells, output, options)
    if how.label is not None:
        check_installed()
    with _opened(cells, model, how, options, cache_dir, say) as opened:
        if how.label is None:
            return Integrated(opened.job.into_file(path, progress, work=work), opened.batches, None)
        judged = _Judged.of(opened.job, how, how.label)
        kept = MemorySink.of(opened.job.n_cells, opened.job.answers.dim)
        summary = opened.job.into_file(path, progress, kept, work)
        return Integrated(summary, opened.batches, judged.scores(opened.job, kept))


@dataclass(frozen=True, slots=True)
class _Opened:
    """A job that is ready, and whose statistics its cells get."""

    job: Job
    batches: CellBatches | None


@contextmanager
def _opened(
    cells: "AnnData | CellPaths",
    model: models.AnyModel,
    how: IntegrateOptions,
    options: EmbedOptions,
    cache_dir: Path | None,
    say: Say | None,
) -> Iterator[_Opened]:
    """Open cells, then the model; what is wrong with the batches shows before anything runs."""
    say = say or _log.info
    with cells_of(cells, options) as source:
        n_cells = source.n_cells if options.limit is None else min(options.limit, source.n_cells)
        names = None if how.batch is None else source.cell_column(how.batch)[:n_cells]
        bundle = models.resolve(model, cache_dir, precision=options.precision, say=say)
        require(bundle.manifest, "integrate")
        batches = _batches(names, bundle, how, source)
        if options.gene_col is not None:
            source.gene_column(options.gene_col)
        match = choose(source.gene_names, bundle.vocabulary(), options.genes, options.gene_col, options.min_match)
        asked = EngineOptions(**{field.name: getattr(options, field.name) for field in fields(EngineOptions)})
        lasting, labelled = models.lasting_cache(cache_dir), batches is not None
        with Engine.open(bundle, asked, cache_dir=lasting, say=say, labelled=labelled) as engine:
            facts = BatchFacts(Facts(bundle, engine, source, match, options), batches, how.batch or "")
            running = engine if batches is None else LabelledEngine(engine, batches.labels)
            answers = Answers(running, match.columns, facts, embedding, bundle.manifest.dim)
            yield _Opened(Job(source, answers, Embedding(), options, asked={"how": _deciding(how)}), batches)


def _deciding(how: IntegrateOptions) -> dict[str, Any]:
    """What can change a row."""
    return {name: value for name, value in asdict(how).items() if name not in ("label", "ignore")}


def _batches(
    names: NDArray[np.str_] | None, bundle: Bundle, how: IntegrateOptions, source: CellSource
) -> CellBatches | None:
    """The batch of each cell; None where the model has no statistics of batches."""
    manifest, model = bundle.manifest, f"the model {bundle.manifest.name}"
    inputs = {spec.name for graph in manifest.graphs if graph.task == "embed" for spec in graph.inputs}
    if "batch" not in inputs:
        if how.batch_map or how.batch_fallback is not None or how.batch_statistics != "cell":
            raise OptionError(
                f"The model {manifest.name} has no statistics of batches, so its vectors do not depend on a cell's "
                "batch. Leave --batch-map, --batch-fallback and --batch-statistics out."
            )
        return None
    if names is None:
        there = ", ".join(source.cell_columns) or "no columns"
        raise OptionError(
            f"The model {manifest.name} normalises by batch, so it needs the batch of each cell. Name its column of "
            f"obs (--batch, batch=...); obs has {there}. The model knows {', '.join(manifest.batches)}."
        )
    return label_cells(names, manifest.batches, how, model)


@dataclass(frozen=True, slots=True)
class _Judged:
    """What cells are judged by."""

    batches: NDArray[np.str_]
    labels: NDArray[np.str_]
    how: IntegrateOptions

    @classmethod
    def of(cls, job: Job, how: IntegrateOptions, label: str) -> "_Judged":
        n_cells = job.n_cells
        columns = [job.source.cell_column(name)[:n_cells] for name in (how.batch or "", label)]
        judged = cls(columns[0], columns[1], how)
        judged.rows(np.ones(n_cells, bool))  # what cannot be scored shows before anything runs
        return judged

    def rows(self, good: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Rows of the cells to score: those of ``good`` with a batch and a type that counts; errors as for `score`."""
        told = (self.batches != "") & (self.labels != "") & ~np.isin(self.labels, self.how.ignore)
        rows = np.flatnonzero(good & told)
        check_scorable(self.batches[rows], self.labels[rows], self.how.batch or "", self.how.label or "")
        return rows

    def scores(self, job: Job, kept: MemorySink) -> Scores:
        """Score the vectors of a finished job, and beside them what the same cells are without the model."""
        from scgpt_infer.integration.baselines import components, harmonised, values_of

        vectors = np.empty((0, 0), np.float32) if kept.vectors is None else kept.vectors
        rows = self.rows(np.asarray(np.isfinite(vectors).all(axis=1)))
        if len(rows) > MOST_SCORED:
            rows = rows[np.linspace(0, len(rows) - 1, MOST_SCORED).astype(np.int64)]
        batches, labels = self.batches[rows], self.labels[rows]
        before = components(values_of(job.source, rows), batches, job.source.values)
        methods = {job.key: vectors[rows], "PCA": before, "Harmony": harmonised(before, batches)}
        return score(methods, before, batches, labels, self.how.batch or "", self.how.label or "")
