"""The jobs behind ``scgpt-infer perturb``: cells and model are opened, then `Work` does the rest.

In: cells, a model, options. Out: an AnnData of mean profiles, or files and a `PerturbSummary`.
"""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scgpt_infer import models
from scgpt_infer.abilities import require
from scgpt_infer.facts import Facts
from scgpt_infer.model import Say, cells_of
from scgpt_infer.options import EmbedOptions
from scgpt_infer.output import destination
from scgpt_infer.perturbation.asked import Combination, PerturbOptions, combinations
from scgpt_infer.perturbation.cells import Cells, Panel, chosen, control_rows, panel_of, read_cells
from scgpt_infer.perturbation.memory import BATCH_TOKENS, cells_in_batch, held_bytes
from scgpt_infer.perturbation.per_cell import FORMATS as CELL_FORMATS
from scgpt_infer.perturbation.predicting import unmeasured
from scgpt_infer.perturbation.profiles import FORMATS, check_format
from scgpt_infer.perturbation.summary import PerturbSummary
from scgpt_infer.perturbation.trial import open_trial
from scgpt_infer.perturbation.work import Work
from scgpt_infer.run import Progress
from scgpt_infer.wanted import tokens_of
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.errors import GenesError, OptionError, OutputError
from scgpt_runtime.opening import cell_bytes
from scgpt_runtime.vocab import Vocabulary, choose, taking_part

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["perturb", "perturb_file", "perturb_json"]

FIGURES = "perturbation_figures"
"""Key of ``uns`` for what `perturb` judged, as JSON."""

_log = logging.getLogger(__name__)
_DEFAULTS = EmbedOptions()


def perturb(
    cells: "AnnData | Path | str",
    *,
    model: models.AnyModel,
    perturbations: Sequence[str] = (),
    control: tuple[str, str] | None = None,
    how: PerturbOptions | None = None,
    options: EmbedOptions = _DEFAULTS,
) -> "AnnData":
    """Predict the mean profile of control cells after each perturbation.

    Parameters
    ----------
    cells
        An AnnData object, or the path of a file of cells. Counts are normalised to 10,000 a cell and logged; values
        that are log1p already are taken as they are.
    model
        A bundle or checkpoint with a perturbation generator; see `scgpt_infer.embed`.
    perturbations, control
        The fields of `PerturbOptions` of these names, for calls that need no others.
    how
        What is perturbed, in which cells, and what is told; then the two above are left out.
    options
        How cells are read and what runs the model; tokenizer settings do not apply, nor do
        ``limit`` and ``in_place``. ``precision`` ``auto`` is fp32
        here: what a perturbation changes is small against the values.

    Returns
    -------
    AnnData
        A row for each perturbation and a column for each gene: ``X`` (mean log1p of counts per 10,000), ``layers``
        ``change`` (against the control cells) and, from a model that tells it, ``nonzero`` (P(value > 0));
        ``var["control"]``; with a truth, figures as JSON in ``uns["perturbation_figures"]``.

    Raises
    ------
    ScgptInferError
        See `scgpt_infer.errors`; `GenesError` for a gene that the model does not know, `BundleError` for a model
        without a generator.
    """
    if how is None:
        alone = isinstance(perturbations, str)  # one alone is a text, and no list of letters
        how = PerturbOptions((str(perturbations),) if alone else tuple(perturbations), control)
    elif perturbations or control:
        raise OptionError("perturbations and control are told twice: give them alone, or as fields of how.")
    with _opened(cells, model, how, options, None, _log.info) as work:
        outcome = work.run(None, None)
        found, judgement = work.profiles(outcome).to_anndata(), work.judged(outcome)
        if judgement is not None:
            found.uns[FIGURES] = judgement.to_json()
        return found


def perturb_json(
    cells: "AnnData | Path | str", *, model: models.AnyModel, how: PerturbOptions, options: EmbedOptions = _DEFAULTS
) -> str:
    """Predict mean profiles after perturbations; the text that `perturb_file` would write into a ``.json`` file.

    Parameters, and what is raised, are those of `perturb`.
    """
    with _opened(cells, model, how, options, None, _log.info) as work:
        return work.profiles(work.run(None, None)).to_json()


def perturb_file(
    cells: Path | str,
    output: Path | str,
    model: models.AnyModel,
    how: PerturbOptions,
    options: EmbedOptions = _DEFAULTS,
    progress: Progress | None = None,
    *,
    per_cell: Path | str | None = None,
    cache_dir: Path | None = None,
    say: Say | None = None,
) -> PerturbSummary:
    """Predict what perturbations do to the control cells of a file, into another file.

    Parameters
    ----------
    cells, model, how, options
        See `perturb`.
    output
        Mean profiles: a new ``.h5ad``, ``.csv``, ``.parquet`` or ``.json`` file.
    progress
        Told the profiles done and the profiles in all.
    per_cell
        A new ``.h5ad`` file for the profile of each cell after each perturbation.
    cache_dir, say
        See `scgpt_infer.Model.open`.

    Raises
    ------
    ScgptInferError
        As for `perturb`, and where a file cannot be written.
    """
    path = destination(Path(cells), output, options)
    check_format(path, FORMATS, "Mean profiles")
    second = None if per_cell is None else destination(Path(cells), per_cell, options)
    if second is not None:
        check_format(second, CELL_FORMATS, "Profiles of cells")
    _check_apart(path, second, how.truth_cells)
    with _opened(cells, model, how, options, cache_dir, say or _log.info) as work:
        outcome = work.run(second, progress)
        judgement = work.judged(outcome)
        work.profiles(outcome).write(path)
        return work.summary(outcome, path, second, judgement)


def _check_apart(path: Path, second: Path | None, truth_cells: Path | None) -> None:
    """No file takes the place of another that this run reads or writes."""
    if second == path:
        raise OutputError(f"{path} would be two files: give --per-cell (per_cell) another name.")
    if truth_cells is not None and Path(os.path.realpath(truth_cells)) in (path, second):
        raise OutputError(f"{truth_cells} is the file of the truth (--truth-cells, truth_cells). Name another output.")


def _check_options(options: EmbedOptions) -> None:
    if options.in_place:
        raise OptionError("Profiles are not added to the cells' file: leave in_place out, and name an output.")
    if options.limit is not None:
        raise OptionError(
            "limit is the first cells of a file, whatever they are: take PerturbOptions.cells (--cells), the number of "
            "control cells."
        )


@contextmanager
def _opened(
    cells: "AnnData | Path | str",
    model: models.AnyModel,
    how: PerturbOptions,
    options: EmbedOptions,
    cache_dir: Path | None,
    say: Say,
) -> Iterator[Work]:
    """Open cells and model; what is wrong with either shows before the model runs."""
    started = time.perf_counter()
    _check_options(options)
    with cells_of(cells, options) as source:
        controls = control_rows(source, how.control)
        bundle = models.resolve(model, cache_dir, precision=options.precision, say=say)
        require(bundle.manifest, "perturb")
        vocabulary = bundle.vocabulary()
        asked = combinations(how.perturbations, vocabulary, options.genes)
        if options.gene_col is not None:
            source.gene_column(options.gene_col)
        found = choose(source.gene_names, vocabulary, options.genes, options.gene_col, options.min_match)
        names = list(source.gene_names[found.source])
        panel = panel_of(found, names, taking_part(vocabulary, bundle.manifest.binning_genes))
        told, unknown = _told(how.only, panel, vocabulary, options)
        trial = open_trial(source, controls, panel, how, options, vocabulary)
        asked = asked or (() if trial is None else trial.asked)
        read = read_cells(source, chosen(source, controls, how.cells), panel, how.values)
        options = _fitting(options, bundle)
        batch_cells = _batch_cells(bundle, panel, read, asked, how, options)
        with _engine(bundle, options, batch_cells * _longest(panel, asked), cache_dir, say) as engine:
            facts = Facts(bundle, engine, source, found, options)
            yield Work(engine, facts, how, panel, read, asked, told, unknown, batch_cells, trial, started)


def _told(
    only: tuple[str, ...], panel: Panel, vocabulary: Vocabulary, options: EmbedOptions
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Places of the genes that are wanted, and the names of those that are not there; all in the order of the file."""
    if not only:
        return np.argsort(panel.columns), ()
    place_of = {token: place for place, token in reversed(list(enumerate(panel.ids.tolist())))}
    tokens = tokens_of(only, vocabulary, options.genes)
    places = [place_of.get(tokens[name], -1) for name in only]
    unknown = tuple(dict.fromkeys(name for name, place in zip(only, places, strict=True) if place < 0))
    there = list(dict.fromkeys(place for place in places if place >= 0))
    if not there:
        raise GenesError(
            f"None of the genes that are wanted is there: {', '.join(unknown[:5])}. They must be columns of the file "
            f"that the model knows, such as {', '.join(panel.names[:5])}."
        )
    return np.array(there, np.int64), unknown


def _fitting(options: EmbedOptions, bundle: Bundle) -> EmbedOptions:
    """Precision and instances, where they were left open: fp32, and all cores for one batch, since inputs are long."""
    precision = "fp32" if options.precision == "auto" and "fp32" in bundle.manifest.precisions else options.precision
    return replace(options, precision=precision, instances=options.instances or 1)


def _longest(panel: Panel, asked: tuple[Combination, ...]) -> int:
    """Most tokens of a cell: the panel's, and those of perturbed genes that it lacks."""
    return len(panel.ids) + max(len(unmeasured(combination, panel)) for combination in asked)


def _batch_cells(
    bundle: Bundle,
    panel: Panel,
    cells: Cells,
    asked: tuple[Combination, ...],
    how: PerturbOptions,
    options: EmbedOptions,
) -> int:
    longest = _longest(panel, asked)
    return cells_in_batch(
        how.memory,
        longest,
        cell_bytes(bundle.manifest, "perturb", longest),
        held_bytes(bundle.manifest, cells, len(asked)),
        options.instances or 1,
        options.batch_tokens or BATCH_TOKENS,
    )


def _engine(bundle: Bundle, options: EmbedOptions, batch_tokens: int, cache_dir: Path | None, say: Say) -> Engine:
    given = {field.name: getattr(options, field.name) for field in fields(EngineOptions)}
    asked = EngineOptions(**given | {"batch_tokens": batch_tokens})
    return Engine.open(bundle, asked, "perturb", models.lasting_cache(cache_dir), say)
