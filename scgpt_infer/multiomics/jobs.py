"""The jobs behind ``scgpt-infer multiomic``: `multiomic` in memory, `multiomic_file` into a file.

In: cells of several modalities, a model that was trained on several. Out: vectors, and values of features.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scgpt_infer import models
from scgpt_infer.abilities import require
from scgpt_infer.answers import Answers
from scgpt_infer.facts import Facts
from scgpt_infer.integration import CellBatches
from scgpt_infer.integration.batches import label_cells
from scgpt_infer.job import Job, check_inplace
from scgpt_infer.model import Say
from scgpt_infer.multiomics.answering import ModalityEngine, ModalityFacts
from scgpt_infer.multiomics.asked import Asked, asked_features
from scgpt_infer.multiomics.heads import FromCells, FromTokens
from scgpt_infer.multiomics.matching import Matched, match_features
from scgpt_infer.multiomics.naming import paired
from scgpt_infer.multiomics.options import MultiomicOptions
from scgpt_infer.options import EmbedOptions
from scgpt_infer.output import check_key, destination
from scgpt_infer.readers.joined import JoinedCells
from scgpt_infer.readers.several import open_several
from scgpt_infer.run import Progress
from scgpt_infer.summary import Summary
from scgpt_infer.tasks.embed import embedding
from scgpt_infer.tasks.multiomic import Multimodal
from scgpt_infer.work import WorkOptions
from scgpt_infer.writers.sink import Record, Table
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.errors import BundleError, InternalError, OptionError
from scgpt_runtime.modalities import Modalities

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

__all__ = ["Multiomic", "multiomic", "multiomic_file", "multiomic_json"]

_log = logging.getLogger(__name__)
_ALL = WorkOptions()
_DEFAULTS = EmbedOptions()
_PLAIN = MultiomicOptions()
_HEADS = {"embedding": ("mvc",), "tokens": ("tokens", "expression")}


@dataclass(frozen=True, slots=True)
class Multiomic:
    """What a run over cells of several modalities says of itself.

    Attributes
    ----------
    summary
        Of the run.
    modalities
        Modality of the model to what it was called in the cells, the features that were read of it, and those of them
        that the model knows.
    predicted
        Modality to the number of features whose values were told.
    not_read
        What else the cells have.
    """

    summary: Summary
    modalities: Mapping[str, tuple[str, int, int]]
    predicted: Mapping[str, int]
    not_read: tuple[str, ...] = ()

    def to_json(self) -> str:
        """One JSON object: the summary's, with what is known of the modalities."""
        told: dict[str, Any] = json.loads(self.summary.to_json())
        told["modalities"] = {
            name: {"in_cells": theirs, "n_features": features, "n_matched": known}
            for name, (theirs, features, known) in self.modalities.items()
        }
        told["predicted"], told["not_read"] = dict(self.predicted), list(self.not_read)
        return json.dumps(told, allow_nan=False, ensure_ascii=False, indent=2)


def multiomic(
    cells: "AnnData | MuData | Path | str",
    *,
    model: models.AnyModel,
    how: MultiomicOptions = _PLAIN,
    options: EmbedOptions = _DEFAULTS,
    inplace: bool = False,
) -> "AnnData":
    """Embed cells by all of their modalities, and predict values of features.

    Parameters
    ----------
    cells
        MuData, or AnnData with further modalities in ``obsm`` or told by a column of ``var`` (see
        `scgpt_infer.readers.several.open_several`), or a file of such cells.
    model
        See `scgpt_infer.embed`; it was trained on several modalities.
    how
        Which modalities are read, which values are predicted and what from, and where batches stand.
    options
        How to run the model, and how to read cells.
    inplace
        Add the result to the AnnData object that was given, and return that; else a copy is returned, and for MuData
        an AnnData without values.

    Returns
    -------
    AnnData
        With ``obsm["X_scGPT"]`` (float32, unit length, NaN for a cell without a vector). Of each modality that values
        were asked of, ``obsm["X_scGPT_NAME_predicted"]``, in bins of the cell, and their names in
        ``uns["X_scGPT_NAME_predicted_names"]``; with ``alone``, ``obsm["X_scGPT_NAME"]``.

    Raises
    ------
    BundleError
        The model was not trained on several modalities, or lacks a head that is asked for.
    CellsError
        The cells lack a modality that was named, or have none of the model's.
    GenesError
        A feature is not known.
    """
    check_inplace(cells, inplace, options)
    with _opened(cells, model, how, options, None, None) as opened:
        if type(cells).__module__.partition(".")[0] == "mudata":
            return _as_anndata(opened.job)
        check_key(cells, opened.job.key)
        return opened.job.into_memory(cells, inplace)[0]


def multiomic_json(
    cells: "AnnData | MuData | Path | str",
    *,
    model: models.AnyModel,
    how: MultiomicOptions = _PLAIN,
    options: EmbedOptions = _DEFAULTS,
) -> str:
    """Embed cells by all of their modalities; the text that `multiomic_file` would write into a ``.json`` file.

    Parameters, and what is raised, are those of `multiomic`.
    """
    with _opened(cells, model, how, options, None, None) as opened:
        return opened.job.document()


def multiomic_file(
    cells: Path | str,
    output: Path | str | None,
    model: models.AnyModel,
    how: MultiomicOptions = _PLAIN,
    options: EmbedOptions = _DEFAULTS,
    progress: Progress | None = None,
    *,
    work: WorkOptions = _ALL,
    cache_dir: Path | None = None,
    say: Say | None = None,
) -> Multiomic:
    """Embed a file of cells by all of their modalities into another file, of any size.

    Parameters
    ----------
    cells, output, model, options, progress, work, cache_dir, say
        See `scgpt_infer.embed_file`; the output may also be ``.json`` or ``.jsonl``.
    how
        See `multiomic`.
    """
    work.check("multiomic", "shard")
    path = destination(Path(cells), output, options)
    with _opened(cells, model, how, options, cache_dir, say) as opened:
        return opened.told(opened.job.into_file(path, progress, work=work))


@dataclass(frozen=True, slots=True)
class _Opened:
    """A job that is ready, and what it is about."""

    job: Job
    matched: Matched
    asked: Asked
    there: tuple[str, ...]

    def told(self, summary: Summary) -> Multiomic:
        """What the finished job says of itself."""
        return Multiomic(
            summary,
            {
                name: (self.matched.pairs[name], found.n_columns, found.n_matched)
                for name, found in self.matched.by.items()
            },
            {name: len(features) for name, features in self.asked.features.items()},
            tuple(name for name in self.there if name not in self.matched.pairs.values()),
        )


@contextmanager
def _opened(
    cells: "AnnData | MuData | Path | str",
    model: models.AnyModel,
    how: MultiomicOptions,
    options: EmbedOptions,
    cache_dir: Path | None,
    say: Say | None,
) -> Iterator[_Opened]:
    """Open the model's names, the cells, then what runs: what is wrong with either shows before anything runs."""
    say = say or _log.info
    if options.modality is not None or options.cells_in is not None:
        raise OptionError("modality and cells_in are for cells of one modality. Here, name modalities (--map).")
    if options.where is not None or options.organism is not None:
        raise OptionError("where and organism are for SOMA experiments, of which one modality is read. Leave them out.")
    bundle = models.resolve(model, cache_dir, precision=options.precision, say=say)
    require(bundle.manifest, "multiomic")
    modalities = bundle.modalities()
    if modalities is None:
        raise InternalError("A bundle that names modalities has none.")
    asked = _asked(how, bundle, modalities, options)
    pairs: dict[str, str] = {}
    found: list[str] = []

    def choice(there: tuple[str, ...], where: str) -> tuple[str, ...]:
        pairs.update(paired(there, where, modalities, how.modalities, bundle.manifest.name))
        found.extend(there)
        return tuple(pairs.values())

    with ExitStack() as stack:
        source = stack.enter_context(open_several(cells, choice, layer=options.layer, threads=options.threads))
        matched = match_features(source, pairs, bundle.vocabulary(), modalities, options)
        batches = _batches(source, bundle, how, options, bool(len(asked.ids)))
        engine = _engine(stack, bundle, how, options, asked, matched, batches, modalities, cache_dir, say)
        facts = ModalityFacts(
            Facts(bundle, engine.cells, source, matched.whole, options), _told(how, matched, asked, batches)
        )
        answers = Answers(engine, matched.columns, facts, embedding, bundle.manifest.dim)
        tables = _tables(engine, bundle)
        asked_for = {"how": asdict(how), "batch_tokens": options.batch_tokens}  # two engines, each with a default
        job = Job(source, answers, Multimodal(tables), options, tables=tables, asked=asked_for)
        yield _Opened(job, matched, asked, tuple(found))


def _asked(how: MultiomicOptions, bundle: Bundle, modalities: Modalities, options: EmbedOptions) -> Asked:
    """What values are asked for, when the model can tell them."""
    if how.predict:
        there = {graph.task for graph in bundle.manifest.graphs}
        missing = [task for task in _HEADS[how.predict_from] if task not in there]
        if missing:
            other = "tokens" if how.predict_from == "embedding" else "embedding"
            instead = f" It can from {other} (--from {other})." if there.issuperset(_HEADS[other]) else ""
            raise BundleError(
                f"The model {bundle.manifest.name} cannot predict values from {how.predict_from}: it has no graph "
                f"{' and no '.join(missing)}; it has {', '.join(sorted(there))}.{instead}"
            )
    return asked_features(how.predict, bundle.vocabulary(), modalities, options.genes)


def _inputs(bundle: Bundle, *tasks: str) -> set[str]:
    return {spec.name for graph in bundle.manifest.graphs if graph.task in tasks for spec in graph.inputs}


def _batches(
    source: JoinedCells, bundle: Bundle, how: MultiomicOptions, options: EmbedOptions, predicts: bool
) -> CellBatches | None:
    """The batch of each cell; None where nothing that is asked depends on it."""
    manifest, batches = bundle.manifest, how.batches
    used = ("embed", *(_HEADS[how.predict_from] if predicts else ()))
    if "batch" not in _inputs(bundle, *used):
        return None
    if batches.batch is None:
        there = ", ".join(source.cell_columns) or "no columns"
        what = "The values that it predicts depend" if "batch" not in _inputs(bundle, "embed") else "Its vectors depend"
        raise OptionError(
            f"The model {manifest.name} has batch labels. {what} on the batch of each cell: name its column of obs "
            f"(--batch, batches=...); obs has {there}. The model knows {', '.join(manifest.batches)}."
        )
    n_cells = source.n_cells if options.limit is None else min(options.limit, source.n_cells)
    names = source.cell_column(batches.batch)[:n_cells]
    return label_cells(names, manifest.batches, batches, f"the model {manifest.name}")


def _engine(
    stack: ExitStack,
    bundle: Bundle,
    how: MultiomicOptions,
    options: EmbedOptions,
    asked: Asked,
    matched: Matched,
    batches: CellBatches | None,
    modalities: Modalities,
    cache_dir: Path | None,
    say: Say,
) -> ModalityEngine:
    """Open what runs."""
    run = EngineOptions(**{field.name: getattr(options, field.name) for field in fields(EngineOptions)})
    opened = partial(Engine.open, bundle, cache_dir=models.lasting_cache(cache_dir), say=say)
    labelled = batches is not None
    cells = stack.enter_context(opened(run, labelled=labelled))
    engine = ModalityEngine(
        cells,
        asked,
        {name: matched.only(name) for name in matched.pairs} if how.alone else {},
        labels=None if batches is None else batches.labels,
        labelled="batch" in _inputs(bundle, "embed"),
    )
    if not len(asked.ids):
        return engine
    mods = modalities.of_tokens[asked.ids]
    if how.predict_from == "embedding":
        head = cells.head("mvc")
        stack.callback(head.close)
        return replace(engine, from_cells=FromCells(head, asked.ids.astype(_id_type(bundle)), mods))
    head = cells.head("expression")
    stack.callback(head.close)
    fold = FromTokens(head, mods, _tells_nonzero(bundle, "expression"))
    longer = replace(run, batch_tokens=options.batch_tokens or cells.batch_tokens + len(asked.ids))
    return replace(engine, tokens=stack.enter_context(opened(longer, task="tokens", fold=fold, labelled=labelled)))


def _id_type(bundle: Bundle) -> type[np.uint16] | type[np.uint32]:
    return np.uint16 if len(bundle.vocabulary()) <= 0xFFFF else np.uint32


def _tells_nonzero(bundle: Bundle, task: str) -> bool:
    return any(
        spec.name == "nonzero" for graph in bundle.manifest.graphs if graph.task == task for spec in graph.outputs
    )


def _tables(engine: ModalityEngine, bundle: Bundle) -> tuple[Table, ...]:
    head = "expression" if engine.from_cells is None else "mvc"
    vectors = tuple(Table(name, "embedding", bundle.manifest.dim) for name in engine.alone)
    return (*vectors, *engine.asked.tables(_tells_nonzero(bundle, head)))


def _told(how: MultiomicOptions, matched: Matched, asked: Asked, batches: CellBatches | None) -> Record:
    """What decides the answers, beside the model and its settings."""
    told: dict[str, str | int | float] = {
        "multiomic_modalities": ", ".join(f"{name}={theirs}" for name, theirs in matched.pairs.items())
    }
    if asked.features:
        told["multiomic_predicted_from"] = how.predict_from
    if batches is None:
        return told
    return {**told, **batches.facts, "multiomic_batch": how.batches.batch or ""}


def _as_anndata(job: Job) -> "AnnData":
    """The result with the table of cells and nothing else: no AnnData holds all that MuData does."""
    from anndata import AnnData

    bare = AnnData(obs=job.source.cell_table().iloc[: job.n_cells])  # type: ignore[attr-defined]  # JoinedCells has it
    return job.into_memory(bare, True)[0]
