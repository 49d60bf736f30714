"""A network from the model's own embeddings of genes: a model, options and perhaps cells in, `GeneNetwork` out.

Cells, where they are given, choose variable genes and score metagenes; no cell goes through the model.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scgpt_infer import __version__, models
from scgpt_infer.abilities import require
from scgpt_infer.gene_vectors.context_free import embeddings, embeddings_id, precision_for
from scgpt_infer.gene_vectors.groups import Groups, groups_of
from scgpt_infer.model import Say, cells_of
from scgpt_infer.networks.asked import EmbeddingNetworkOptions
from scgpt_infer.networks.counting import Count
from scgpt_infer.networks.expression import Expression, expression
from scgpt_infer.networks.metagenes import igraph_there, metagenes
from scgpt_infer.networks.network import GeneNetwork, GroupScores
from scgpt_infer.networks.scoring import group_scores
from scgpt_infer.networks.similarity import Edges, near_edges, strong_edges, unit
from scgpt_infer.networks.variable import most_variable
from scgpt_infer.options import EmbedOptions
from scgpt_infer.run import Progress
from scgpt_infer.wanted import wanted_genes
from scgpt_infer.writers.sink import Record
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.errors import GenesError, OptionError
from scgpt_runtime.vocab import Vocabulary, choose

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["from_embeddings"]

_log = logging.getLogger(__name__)
_DEFAULTS = EmbedOptions()
_ALL = EmbeddingNetworkOptions()


@dataclass(frozen=True, slots=True)
class _Seen:
    """What cells told: sums, groups, and the token id of each column, -1 for a gene that the model does not know."""

    found: Expression
    groups: Groups
    columns: NDArray[np.int64]


def from_embeddings(
    model: models.AnyModel,
    how: EmbeddingNetworkOptions = _ALL,
    options: EmbedOptions = _DEFAULTS,
    cells: "AnnData | Path | str | None" = None,
    progress: Progress | None = None,
    *,
    cache_dir: Path | None = None,
    say: Say | None = None,
) -> tuple[GeneNetwork, tuple[str, ...]]:
    """Join genes whose embeddings are alike.

    Parameters
    ----------
    model
        See `scgpt_infer.embed`.
    how
        Which genes, which edges, which metagenes.
    options
        ``precision``, ``genes`` and how cells are read count.
    cells
        A file of cells or an AnnData object, for variable genes and for scores of groups.
    progress
        Told the cells done and the cells in all.
    cache_dir, say
        See `scgpt_infer.Model.open`.

    Returns
    -------
    network
        Edges by cosine, metagenes by Leiden.
    unknown
        Names that were asked for and that the model does not know.

    Raises
    ------
    GenesError
        Fewer than two of the genes that were asked for are known.
    BundleError
        The bundle has no embeddings of genes.
    CellsError
        There is no such column, or no cell can be used.
    MissingDependencyError
        igraph is not installed.
    """
    _check_cells(how, given=cells is not None)
    igraph_there()  # before cells are read
    seen: _Seen | None = None
    if cells is None:
        bundle, vocabulary = _opened(model, options, cache_dir, say)
    else:
        with cells_of(cells, options) as source:
            n_cells = source.n_cells if options.limit is None else min(options.limit, source.n_cells)
            groups = groups_of(source, how.by, n_cells)
            bundle, vocabulary = _opened(model, options, cache_dir, say)
            if options.gene_col is not None:
                source.gene_column(options.gene_col)
            columns = choose(source.gene_names, vocabulary, options.genes, options.gene_col, options.min_match).columns
            seen = _Seen(expression(source, groups, Count(progress, n_cells)), groups, columns)
    ids, unknown = _genes(how, options, vocabulary, seen)
    precision = precision_for(bundle, options.precision)
    vectors = unit(embeddings(bundle, ids, precision))
    edges = _edges(vectors, how)
    found = metagenes(edges, len(ids), how.resolution, how.min_genes, how.leiden_seed)
    network = GeneNetwork(
        tuple(vocabulary.tokens[token] for token in ids.tolist()),
        edges.source,
        edges.target,
        edges.cosine,
        directed=False,
        record=_record(bundle, precision, how, options, seen),
        metagenes=found,
        scores=_scores(how, ids, found, seen),
    )
    return network, unknown


def _check_cells(how: EmbeddingNetworkOptions, *, given: bool) -> None:
    if how.of_cells and not given:
        raise OptionError(
            "--variable and --by (variable, by) are about cells, and no file of cells was named. Name one, or leave "
            "them out."
        )
    if given and not how.of_cells:
        raise OptionError(
            "Cells were named, and nothing is asked of them: a network from embeddings is the model's own. Take the "
            "genes that vary in them (--variable, variable), score metagenes in groups of them (--by, by), ask for a "
            "network from attention (--condition, --targets), or leave the cells out."
        )


def _opened(
    model: models.AnyModel, options: EmbedOptions, cache_dir: Path | None, say: Say | None
) -> tuple[Bundle, Vocabulary]:
    bundle = models.resolve(model, cache_dir, precision=options.precision, say=say or _log.info)
    require(bundle.manifest, "grn")
    return bundle, bundle.vocabulary()


def _genes(
    how: EmbeddingNetworkOptions, options: EmbedOptions, vocabulary: Vocabulary, seen: _Seen | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Token ids of the genes that take part, and the names that are not known."""
    if how.variable is not None and seen is not None:
        chosen = seen.columns[most_variable(seen.found, how.variable, seen.columns >= 0)]
        return _enough(np.unique(chosen), "genes that vary in the cells"), ()
    wanted = wanted_genes(how.only, vocabulary, options.genes)
    return _enough(wanted.ids, "genes that were asked for"), wanted.unknown


def _enough(ids: NDArray[np.int64], which: str) -> NDArray[np.int64]:
    if len(ids) < 2:
        raise GenesError(f"The model knows {len(ids)} of the {which}; a network needs two or more. Ask for more genes.")
    return ids


def _edges(vectors: NDArray[np.float32], how: EmbeddingNetworkOptions) -> Edges:
    if how.nearest is not None:
        return near_edges(vectors, how.nearest, how.threshold)
    return strong_edges(vectors, how.threshold or 0.0)


def _scores(
    how: EmbeddingNetworkOptions, ids: NDArray[np.int64], found: NDArray[np.int32], seen: _Seen | None
) -> GroupScores | None:
    if how.by is None or seen is None:
        return None
    numbers = range(1, int(found.max(initial=0)) + 1)
    sets = [np.flatnonzero(np.isin(seen.columns, ids[found == number])) for number in numbers]
    return group_scores(seen.found, seen.groups, how.by, sets)


def _record(
    bundle: Bundle, precision: str, how: EmbeddingNetworkOptions, options: EmbedOptions, seen: _Seen | None
) -> Record:
    manifest = bundle.manifest
    asked = {
        "network_neighbours": how.nearest,
        "network_threshold": how.threshold,
        "network_variable": how.variable,
        "network_by": how.by,
        "n_cells": None if seen is None else seen.found.n_cells + seen.found.n_bad,
        "n_bad": None if seen is None else seen.found.n_bad,
    }
    return {
        "version": __version__,
        "model": manifest.name,
        "vector_id": embeddings_id(bundle, precision),
        "weights_sha256": manifest.weights,
        "vocabulary_sha256": bundle.sha256("vocab.json"),
        "result": "gene_network",
        "dim": manifest.dim,
        "precision": precision,
        "genes": options.genes,
        "network_from": "embeddings",
        "network_resolution": how.resolution,
        "network_min_genes": how.min_genes,
        "network_leiden_seed": how.leiden_seed,
        **{name: value for name, value in asked.items() if value is not None},
    }
