"""The jobs behind ``scgpt-infer impute``: predicted values of chosen genes, in memory or in a file.

In: cells, a model, names of genes, options. Out: an AnnData, or a file and `Imputed`. Cells, then model, then output
are opened, and closed again.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scgpt_infer import models
from scgpt_infer.answers import Answers
from scgpt_infer.facts import Facts
from scgpt_infer.imputation.asked import HEADS, ImputeOptions, settled, tells_zeros
from scgpt_infer.imputation.chosen import rows_of
from scgpt_infer.imputation.hiding import Hiding
from scgpt_infer.imputation.predicting import Imputer, MaskedPredictions
from scgpt_infer.imputation.summary import Imputed
from scgpt_infer.integration import CellBatches
from scgpt_infer.integration.batches import label_cells
from scgpt_infer.job import Job, check_inplace
from scgpt_infer.model import Say, cells_of
from scgpt_infer.options import EmbedOptions
from scgpt_infer.output import check_key, destination
from scgpt_infer.readers import CellSource
from scgpt_infer.run import Progress
from scgpt_infer.some_rows import SomeRows
from scgpt_infer.tasks.impute import NONZERO, Imputation
from scgpt_infer.wanted import WantedGenes, wanted_genes
from scgpt_infer.work import WorkOptions
from scgpt_infer.writers.sink import Record
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.errors import OptionError, OutputError
from scgpt_runtime.vocab import choose, taking_part

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["FORMATS", "impute", "impute_file", "impute_json"]

FORMATS = (".json", ".jsonl", ".h5ad", ".zarr", ".csv", ".parquet", ".dataset")

_log = logging.getLogger(__name__)
_ALL = WorkOptions()
_DEFAULTS = EmbedOptions()
_BEST = ImputeOptions()


def impute(
    cells: "AnnData | Path | str",
    *,
    model: models.AnyModel,
    genes: Sequence[str],
    how: ImputeOptions = _BEST,
    options: EmbedOptions = _DEFAULTS,
    inplace: bool = False,
) -> "AnnData":
    """Predict values of chosen genes in cells, whether the cells express them, do not, or were never asked.

    Parameters
    ----------
    cells
        An AnnData object, or the path of a file of cells (docs/formats.md), which is read into memory whole.
    model
        A bundle (folder or zip), a checkpoint (folder or zip; exported once into the cache), ``demo``, or an open
        `scgpt_runtime.bundle.Bundle`.
    genes
        Names or Ensembl ids of genes of the model's vocabulary, or one of them. The cells need not have them.
    how
        What the model is not shown, which head predicts, in which units, for which cells.
    options
        How to run the model, and how to read cells.
    inplace
        Add to the object that was given, and return that; else a copy is returned.

    Returns
    -------
    AnnData
        With ``obsm["X_scGPT_imputed"]`` (``X_scGPT_demo_imputed`` for the demo model), (n_cells, n_genes) float32, NaN
        for a cell without an answer; the names of the genes in ``uns["X_scGPT_imputed_genes"]``; for a model with
        explicit zeros ``obsm["X_scGPT_imputed_nonzero"]``, the probability that a gene is expressed at all; and with
        ``uns["scgpt_infer_imputed"]``, which says how they were made.

    Raises
    ------
    ScgptInferError
        See `scgpt_infer.errors`; `BundleError` when the model has no head that predicts expression, `GenesError` when
        it knows none of the genes.
    """
    check_inplace(cells, inplace, options)
    if inplace and how.cells:
        raise OptionError("inplace=True goes with all cells of the object: leave out inplace, or how.cells.")
    with _opened(cells, model, _names(genes), how, options, None, None) as (job, _, _):
        check_key(cells, job.key)
        chosen = cells[job.rows] if job.rows is not None and not isinstance(cells, (str, Path)) else cells
        return job.into_memory(chosen, inplace)[0]


def impute_json(
    cells: "AnnData | Path | str",
    *,
    model: models.AnyModel,
    genes: Sequence[str],
    how: ImputeOptions = _BEST,
    options: EmbedOptions = _DEFAULTS,
) -> str:
    """Predict values of chosen genes in cells; the text that `impute_file` would write into a ``.json`` file.

    Parameters, and what is raised, are those of `impute`.
    """
    with _opened(cells, model, _names(genes), how, options, None, None) as (job, _, _):
        return job.document()


def impute_file(
    cells: Path | str,
    output: Path | str | None,
    model: models.AnyModel,
    genes: Sequence[str],
    options: EmbedOptions = _DEFAULTS,
    how: ImputeOptions = _BEST,
    progress: Progress | None = None,
    *,
    work: WorkOptions = _ALL,
    cache_dir: Path | None = None,
    say: Say | None = None,
) -> Imputed:
    """Predict values of chosen genes in a file of cells, of any size, into another file.

    Parameters
    ----------
    cells, model, genes, options, how
        See `impute`.
    output
        A file or folder of `FORMATS`; None with `EmbedOptions.in_place`.
    progress
        Told the cells done and the cells in all.
    work
        See `scgpt_infer.embed_file`; a share cannot be asked for.
    cache_dir, say
        See `scgpt_infer.Model.open`.

    Raises
    ------
    ScgptInferError
        As for `impute`, and where the file cannot be written. No partial file has the final name.
    """
    work.check("impute")
    path = destination(Path(cells), output, options)
    if path.suffix.lower() not in FORMATS:
        raise OutputError(f"Imputed values go to {', '.join(FORMATS)}, and the output is {path.name}.")
    if options.in_place and how.cells:
        raise OptionError("--in-place (in_place) keeps all cells of the file: leave it out, or --cells (cells).")
    with _opened(cells, model, _names(genes), how, options, cache_dir, say) as (job, wanted, how):
        summary = job.into_file(path, progress, work=work)
        if job.rows is not None:  # bad cells are told by their rows in the file, as its output tells them
            bad = tuple(replace(cell, row=job.rows[cell.row]) for cell in summary.bad)
            summary = replace(summary, bad=bad)
        return Imputed.of(summary, job.features, wanted.unknown, how, bool(job.matrices))


def _names(genes: Sequence[str]) -> tuple[str, ...]:
    """Genes as a user gives them; one alone is a text, and no list of letters."""
    return (genes,) if isinstance(genes, str) else tuple(genes)


@contextmanager
def _opened(
    cells: "AnnData | Path | str",
    model: models.AnyModel,
    genes: tuple[str, ...],
    how: ImputeOptions,
    options: EmbedOptions,
    cache_dir: Path | None,
    say: Say | None,
) -> Iterator[tuple[Job, WantedGenes, ImputeOptions]]:
    """Open the cells, then the model: what is wrong with a file shows before a checkpoint is exported."""
    if not genes:
        raise OptionError("No gene was asked for. Name some: --only A,B or --genes-file FILE (genes=[...]).")
    say = say or _log.info
    with cells_of(cells, options) as whole:
        source: CellSource = SomeRows(whole, rows_of(whole, how.cells), of_file=False) if how.cells else whole
        bundle = models.resolve(model, cache_dir, precision=options.precision, say=say)
        how = settled(how, bundle.manifest)
        options = replace(options, key=options.key or f"{bundle.manifest.key}_imputed")
        wanted = wanted_genes(genes, bundle.vocabulary(), options.genes)
        batches = _batches(source, bundle, how)
        if options.gene_col is not None:
            source.gene_column(options.gene_col)
        with _engine(bundle, wanted, how, options, models.lasting_cache(cache_dir), say) as (engine, fold):
            yield _job(bundle, engine, fold, source, wanted, how, options, batches), wanted, how


def _batches(source: CellSource, bundle: Bundle, how: ImputeOptions) -> CellBatches | None:
    """The batch of each cell; None where the model has no batch labels."""
    if how.batches.batch is None:
        return None
    names = source.cell_column(how.batches.batch)
    return label_cells(names, bundle.manifest.batches, how.batches, f"the model {bundle.manifest.name}")


@contextmanager
def _engine(
    bundle: Bundle, wanted: WantedGenes, how: ImputeOptions, options: EmbedOptions, cache_dir: Path | None, say: Say
) -> Iterator[tuple[Engine, MaskedPredictions | None]]:
    """The engine that tells values at masks, or cell embeddings."""
    asked = EngineOptions(**{field.name: getattr(options, field.name) for field in fields(EngineOptions)})
    graph, head = HEADS[how.predict_from or "tokens"]
    fold = None
    if head == "expression":
        settings = bundle.manifest.tokenizer
        mask = settings.mask_code if settings.value_style == "binned" else settings.mask_value
        width = len(wanted.ids) if how.hide == "together" else 1
        fold = MaskedPredictions(width, mask, tells_zeros(bundle.manifest, head))
    labelled = how.batches.batch is not None
    with Engine.open(bundle, asked, graph, cache_dir, say, fold, labelled) as engine:
        _check_room(engine, wanted, how)
        if fold is not None:
            fold.head = engine.head(head)
        yield engine, fold


def _job(
    bundle: Bundle,
    engine: Engine,
    fold: MaskedPredictions | None,
    source: CellSource,
    wanted: WantedGenes,
    how: ImputeOptions,
    options: EmbedOptions,
    batches: CellBatches | None,
) -> Job:
    vocabulary, manifest = engine.vocabulary, bundle.manifest
    match = choose(source.gene_names, vocabulary, options.genes, options.gene_col, options.min_match)
    scaled = how.units != "bins" and manifest.tokenizer.value_style == "binned"
    columns = _taking_part(match.columns, bundle)
    ids, order = np.unique(wanted.ids, return_inverse=True)
    labels = None if batches is None else batches.labels
    hiding = Hiding(columns, ids, how.hide or "together", engine.settings, len(vocabulary), scaled, labels)
    decoder = engine.head("mvc") if fold is None else None
    imputer = Imputer(engine, hiding, order, decoder, how.units == "expected")
    names = tuple(vocabulary.tokens[token] for token in wanted.ids.tolist())
    told: Record = {
        "impute_from": how.predict_from or "",
        "impute_hide": how.hide or "",
        "impute_units": how.units,
        "impute_genes": len(names),
        **({} if batches is None else batches.facts),
    }
    facts = Facts(bundle, engine, source, match, options)
    task = Imputation(told)
    answers = Answers(imputer, match.columns, facts, task, len(names))
    matrices = (NONZERO,) if tells_zeros(manifest, HEADS[how.predict_from or "tokens"][1]) else ()
    rows: list[int] | None = source.rows.tolist() if isinstance(source, SomeRows) else None
    return Job(source, answers, task, options, features=names, matrices=matrices, rows=rows, asked={"how": asdict(how)})


def _taking_part(columns: NDArray[np.int64], bundle: Bundle) -> NDArray[np.int64]:
    """The columns that binning sees, as the engine takes them."""
    among = taking_part(bundle.vocabulary(), bundle.manifest.binning_genes)
    return np.where((columns >= 0) & among[columns], columns, -1)


def _check_room(engine: Engine, wanted: WantedGenes, how: ImputeOptions) -> None:
    masks, most = len(wanted.ids) if how.hide == "together" else 1, engine.settings.max_length
    if how.hide != "none" and masks > most - 2:
        raise OptionError(
            f"{masks:,} genes are to be hidden together, and a cell has at most {most:,} tokens, <cls>, masks and what "
            "is seen counted. Ask for fewer genes, take --hide each or --from embedding (hide, predict_from), or raise "
            "--max-length (max_length)."
        )
