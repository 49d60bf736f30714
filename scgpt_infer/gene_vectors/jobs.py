"""The jobs behind ``scgpt-infer genes``: vectors of genes without cells, in cells, and in each cell.

In: a model, cells, options. Out: `GeneVectors` in memory, or a file and a `GeneSummary`.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scgpt_infer import __version__, models
from scgpt_infer.facts import Facts
from scgpt_infer.gene_vectors.asked import GeneOptions
from scgpt_infer.gene_vectors.context_free import embeddings, embeddings_id, precision_for
from scgpt_infer.gene_vectors.groups import Groups, groups_of
from scgpt_infer.gene_vectors.means import Means, Seen, means_in_cells, possible_genes
from scgpt_infer.gene_vectors.per_cell import write_per_cell
from scgpt_infer.gene_vectors.stream import open_states
from scgpt_infer.gene_vectors.summary import GeneSummary
from scgpt_infer.gene_vectors.table import GeneVectors, check_format
from scgpt_infer.model import Say, cells_of
from scgpt_infer.options import EmbedOptions
from scgpt_infer.output import destination
from scgpt_infer.readers import CellSource
from scgpt_infer.run import Progress, Tally, peak_bytes
from scgpt_infer.summary import BadCells
from scgpt_infer.wanted import WantedGenes, wanted_genes
from scgpt_infer.writers.sink import Record
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.engine import Engine
from scgpt_runtime.errors import CellsError, OptionError
from scgpt_runtime.vocab import choose

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["context_free", "genes_file", "in_cells"]

_log = logging.getLogger(__name__)
_DEFAULTS = EmbedOptions()
_ALL = GeneOptions()


def context_free(
    model: models.AnyModel,
    how: GeneOptions = _ALL,
    options: EmbedOptions = _DEFAULTS,
    *,
    cache_dir: Path | None = None,
    say: Say | None = None,
) -> GeneVectors:
    """The model's own embeddings of genes, which no cell has a part in.

    Parameters
    ----------
    model
        See `scgpt_infer.embed`.
    how
        Which genes.
    options
        ``precision`` and ``genes`` (how names are matched) count; the rest is for cells.
    cache_dir, say
        See `scgpt_infer.Model.open`.

    Raises
    ------
    GenesError
        None of the genes that were asked for is known.
    BundleError
        The bundle was made before there were embeddings of genes.
    """
    bundle = models.resolve(model, cache_dir, precision=options.precision, say=say or _log.info)
    return _context_free(bundle, how, options)[0]


def in_cells(
    cells: "AnnData | Path | str",
    model: models.AnyModel,
    how: GeneOptions = _ALL,
    options: EmbedOptions = _DEFAULTS,
    progress: Progress | None = None,
    *,
    cache_dir: Path | None = None,
    say: Say | None = None,
) -> GeneVectors:
    """The mean of the hidden states of each gene, over all cells or groups of them.

    Parameters
    ----------
    cells
        A file of cells, or an AnnData object.
    model
        See `scgpt_infer.embed`.
    how
        Which genes and groups; ``per_cell`` is for files (`genes_file`).
    options
        How cells are read and run.
    progress
        Told the cells done and the cells in all.
    cache_dir, say
        See `scgpt_infer.Model.open`.

    Raises
    ------
    GenesError
        None of the genes that were asked for is known.
    CellsError
        There is no such column, no cell can be used, or no gene is seen in enough of them.
    """
    if how.per_cell:
        raise OptionError("Vectors of each cell's genes are written to a file as they come. Use genes_file.")
    with _opened(cells, model, how, options, progress, cache_dir, say) as job:
        return job.vectors(job.means())


def genes_file(
    output: Path | str,
    model: models.AnyModel,
    cells: Path | str | None = None,
    how: GeneOptions = _ALL,
    options: EmbedOptions = _DEFAULTS,
    progress: Progress | None = None,
    *,
    cache_dir: Path | None = None,
    say: Say | None = None,
) -> GeneSummary:
    """Write vectors of genes into a file.

    Parameters
    ----------
    output
        A new ``.h5ad``, ``.npy``, ``.parquet``, ``.csv`` or ``.json`` file; ``.parquet`` with ``per_cell``.
    model
        See `scgpt_infer.embed`.
    cells
        A file of cells; None: the model's own embeddings, as `context_free`.
    how, options, progress, cache_dir, say
        See `in_cells`.

    Raises
    ------
    ScgptInferError
        As for `context_free` and `in_cells`, and where the file cannot be written.
    """
    if cells is None and how.of_cells:
        raise OptionError(
            "--by, --min-cells and --per-cell (by, min_cells, per_cell) are about genes in cells, and no file of cells "
            "was named."
        )
    path = destination(Path() if cells is None else Path(cells), output, options)
    check_format(path, per_cell=how.per_cell, grouped=how.by is not None)
    if cells is None:
        bundle = models.resolve(model, cache_dir, precision=options.precision, say=say or _log.info)
        found, wanted = _context_free(bundle, how, options)
        found.write(path, _key(bundle, options))
        n_genes = len(found.genes)
        return GeneSummary(**_told(bundle, found.record, path, wanted), n_rows=n_genes, n_genes=n_genes)
    with _opened(cells, model, how, options, progress, cache_dir, say) as job:
        return job.per_cell(path) if how.per_cell else job.into_file(path)


@dataclass(slots=True)
class _Job:
    """Open cells and an open model, and what is asked of them."""

    source: CellSource
    engine: Engine
    facts: Facts
    how: GeneOptions
    options: EmbedOptions
    wanted: WantedGenes
    groups: Groups
    progress: Progress | None
    started: float
    told: int = 0

    def tick(self, cells: int) -> None:
        """Cells that were answered."""
        self.told += cells
        if self.progress is not None:
            self.progress(self.told, len(self.groups.codes))

    def means(self) -> Means:
        """Run the cells."""
        columns = self.facts.match.columns
        ids = possible_genes(self.engine, columns, self.wanted)
        self.tick(0)
        found = means_in_cells(self.engine, self.source, columns, ids, self.groups, self.how.min_cells, self.tick)
        if self.wanted.all and not len(found.ids):  # those that were asked for by name are told one by one
            raise CellsError(
                f"No gene is seen in {self.how.min_cells:,} cells or more{' of a group' if self.how.by else ''}, so "
                f"there is no vector; there are {found.seen.n_cells:,} cells. Lower --min-cells (min_cells)."
            )
        return found

    def vectors(self, means: Means) -> GeneVectors:
        """Means with their names."""
        tokens, names = self.engine.vocabulary.tokens, self.groups.names
        return GeneVectors(
            tuple(tokens[token] for token in means.ids.tolist()),
            means.vectors,
            self._record(means.seen.n_cells, len(means.seen.bad)),
            means.cells,
            self.how.by or "",
            tuple(names[group] for group in means.groups.tolist()) if self.how.by else (),
        )

    def into_file(self, path: Path) -> GeneSummary:
        """Write the means."""
        means = self.means()
        found = self.vectors(means)
        found.write(path, self.key)
        return self._summary(path, found.record, means.seen, len(found.genes), np.unique(means.ids).tolist())

    def per_cell(self, path: Path) -> GeneSummary:
        """Write a row for each gene of each cell."""
        columns = self.facts.match.columns
        ids, n_cells = possible_genes(self.engine, columns, self.wanted), len(self.groups.codes)
        self.tick(0)
        seen, n_rows = write_per_cell(
            path, self.engine, self.source, columns, ids, n_cells, self._record, tick=self.tick
        )
        record = self._record(seen.n_cells, len(seen.bad))
        return self._summary(path, record, seen, n_rows, ids.tolist())

    @property
    def key(self) -> str:
        """Name of the vectors under ``obsm``."""
        return _key(self.facts.bundle, self.options)

    def _record(self, n_cells: int, n_bad: int) -> Record:
        asked = {"result": "genes_of_cells" if self.how.per_cell else "genes_in_cells", "key": self.key}
        means: Record = {} if self.how.per_cell else {"by": self.how.by or "", "min_cells": self.how.min_cells}
        return {**self.facts.record(n_cells, n_bad), **asked, **means}

    def _summary(self, path: Path, record: Record, seen: Seen, n_rows: int, ids: list[int]) -> GeneSummary:
        wall = time.perf_counter() - self.started
        tally = Tally(seen.n_cells, BadCells.of(seen.bad), seen.longest, self.engine.timings, wall, peak_bytes())
        without = int(np.count_nonzero(self.groups.codes < 0))
        tokens = self.engine.vocabulary.tokens
        lacking = () if self.wanted.all else self.wanted.ids[~np.isin(self.wanted.ids, ids)].tolist()
        return GeneSummary(
            **_told(self.facts.bundle, record, path, self.wanted),
            n_rows=n_rows,
            n_genes=len(ids),
            missing=tuple(tokens[token] for token in lacking),
            cells=self.facts.summary(tally, path),
            by=self.how.by or "",
            groups=self.groups.sizes if self.how.by else None,
            n_without_group=without,
            min_cells=self.how.min_cells,
        )


@contextmanager
def _opened(
    cells: "AnnData | Path | str",
    model: models.AnyModel,
    how: GeneOptions,
    options: EmbedOptions,
    progress: Progress | None,
    cache_dir: Path | None,
    say: Say | None,
) -> Iterator[_Job]:
    """Open the cells, then the model: what is wrong with a file shows before a checkpoint is exported."""
    say = say or _log.info
    with cells_of(cells, options) as source:
        n_cells = source.n_cells if options.limit is None else min(options.limit, source.n_cells)
        groups = groups_of(source, how.by, n_cells)
        bundle = models.resolve(model, cache_dir, precision=options.precision, say=say)
        vocabulary = bundle.vocabulary()
        wanted = wanted_genes(how.only, vocabulary, options.genes)
        if options.gene_col is not None:
            source.gene_column(options.gene_col)
        match = choose(source.gene_names, vocabulary, options.genes, options.gene_col, options.min_match)
        with open_states(bundle, options, models.lasting_cache(cache_dir), say) as engine:
            facts = Facts(bundle, engine, source, match, options)
            yield _Job(source, engine, facts, how, options, wanted, groups, progress, time.perf_counter())


def _context_free(bundle: Bundle, how: GeneOptions, options: EmbedOptions) -> tuple[GeneVectors, WantedGenes]:
    if how.of_cells:
        raise OptionError(
            "by, min_cells and per_cell are about genes in cells. Use in_cells, or genes_file with cells."
        )
    vocabulary = bundle.vocabulary()
    wanted = wanted_genes(how.only, vocabulary, options.genes)
    precision = precision_for(bundle, options.precision)
    vectors = embeddings(bundle, wanted.ids, precision)
    manifest = bundle.manifest
    record: Record = {
        "version": __version__,
        "model": manifest.name,
        "vector_id": embeddings_id(bundle, precision),
        "weights_sha256": manifest.weights,
        "vocabulary_sha256": bundle.sha256("vocab.json"),
        "result": "genes",
        "key": _key(bundle, options),
        "dim": manifest.dim,
        "precision": precision,
    }
    return GeneVectors(tuple(vocabulary.tokens[token] for token in wanted.ids.tolist()), vectors, record), wanted


def _key(bundle: Bundle, options: EmbedOptions) -> str:
    return options.key or f"{bundle.manifest.key}_genes"


def _told(bundle: Bundle, record: Record, path: Path, wanted: WantedGenes) -> dict[str, Any]:
    """What every summary tells."""
    return {
        "model": bundle.manifest.name,
        "vector_id": record["vector_id"],
        "precision": record["precision"],
        "dim": bundle.manifest.dim,
        "output": str(path),
        "key": record["key"],
        "unknown": wanted.unknown,
    }
