"""A network from attention: cells, a model and target names in, the genes that attend most to each target out.

With two conditions of cells an edge tells how far attention rises from one to the other.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scgpt_infer import models
from scgpt_infer.abilities import abilities, require
from scgpt_infer.facts import Facts
from scgpt_infer.gene_vectors.groups import Groups
from scgpt_infer.integration.batches import CellBatches, label_cells
from scgpt_infer.model import Say, cells_of
from scgpt_infer.networks.attended import AttentionScores, attention_scores, open_attention
from scgpt_infer.networks.attention_asked import AttentionOptions, Conditions, conditions_of
from scgpt_infer.networks.counting import Count
from scgpt_infer.networks.expression import expression
from scgpt_infer.networks.network import GeneNetwork
from scgpt_infer.networks.variable import most_variable
from scgpt_infer.options import EmbedOptions
from scgpt_infer.readers import CellSource
from scgpt_infer.run import Progress
from scgpt_infer.wanted import wanted_genes
from scgpt_infer.writers.sink import Record
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.errors import BundleError, GenesError, OptionError
from scgpt_runtime.vocab import GeneMatch, Vocabulary, choose, taking_part

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["AttentionNetwork", "AttentionOptions", "edges_to", "from_attention"]

_log = logging.getLogger(__name__)
_DEFAULTS = EmbedOptions()

Weights = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AttentionNetwork:
    """What came of a job.

    Attributes
    ----------
    network
        An edge leads from a target name to a gene that attends to it.
    scores
        Of all chosen genes, with the cells that have none.
    conditions
        Which cells were taken.
    unknown
        Names that were asked for, and that the model or the cells do not have.
    """

    network: GeneNetwork
    scores: AttentionScores
    conditions: Conditions
    unknown: tuple[str, ...]


def from_attention(
    cells: "AnnData | Path | str",
    model: models.AnyModel,
    how: AttentionOptions,
    options: EmbedOptions = _DEFAULTS,
    progress: Progress | None = None,
    *,
    cache_dir: Path | None = None,
    say: Say | None = None,
) -> AttentionNetwork:
    """Find the genes that attend most to each of some genes, as scGPT's tutorial on attention does.

    In each cell the raw scores of the last layer are ranked along keys, the ranks along queries, and the mean is taken
    over heads, then over the cells of a condition. Other than in the tutorial, the sort is stable, and the first cell
    of each condition is not lost.

    Parameters
    ----------
    cells
        A file of cells, or an AnnData object.
    model
        See `scgpt_infer.embed`.
    how
        Which genes, and which conditions.
    options
        How cells are read and run; ``max_length``, ``sample`` and ``batch_tokens`` have no part in it.
    progress
        Told the cells done and the cells in all.
    cache_dir, say
        See `scgpt_infer.Model.open`.

    Raises
    ------
    GenesError
        None of the targets is known, or fewer than two genes are left.
    BundleError
        The bundle has no graph of attention scores.
    CellsError
        There is no such column or condition, or no cell can be used.
    OptionError
        There is not enough memory for the sums.
    """
    say = say or _log.info
    with cells_of(cells, options) as source:
        n_cells = source.n_cells if options.limit is None else min(options.limit, source.n_cells)
        conditions = conditions_of(source, how, n_cells)
        bundle = models.resolve(model, cache_dir, precision=options.precision, say=say)
        require(bundle.manifest, "grn")
        batches = _batches(bundle, source, how, n_cells)
        if options.gene_col is not None:
            source.gene_column(options.gene_col)
        match = choose(source.gene_names, bundle.vocabulary(), options.genes, options.gene_col, options.min_match)
        ids, targets, unknown = _genes(bundle, source, match, how, options, n_cells)
        count = Count(progress, n_cells)
        lasting, labelled = models.lasting_cache(cache_dir), batches is not None
        with open_attention(bundle, len(ids), options, lasting, say, labelled) as engine:
            count(0)
            scores = attention_scores(
                engine,
                source,
                match.columns,
                ids,
                conditions.groups,
                labels=None if batches is None else batches.labels,
                compat=how.compat,
                tick=count,
            )
            facts = Facts(bundle, engine, source, match, options).record(n_cells, len(scores.bad))
        record = {**_record(facts, how, conditions, scores), **({} if batches is None else batches.facts)}
        return AttentionNetwork(
            _network(scores, conditions, targets, how.top, bundle.vocabulary(), record), scores, conditions, unknown
        )


def edges_to(weights: Weights, names: NDArray[np.str_], target: int, top: int) -> NDArray[np.int64]:
    """Places of the genes that attend most to a gene, largest weight first, equal ones in the order of their names.

    Parameters
    ----------
    weights
        (n_genes, n_genes) scores or differences, rows the genes that attend.
    names
        (n_genes,) their names.
    target
        Place of the gene that is attended to; it is not among what is found.
    top
        How many.
    """
    order = np.lexsort((names, -weights[:, target]))
    found: NDArray[np.int64] = order[order != target][:top]
    return found


def _batches(bundle: Bundle, source: CellSource, how: AttentionOptions, n_cells: int) -> CellBatches | None:
    """The batch of each cell; None where the model does not normalise by batch."""
    manifest = bundle.manifest
    if not any(graph.task == "attention" for graph in manifest.graphs):
        raise BundleError(
            f"The model {manifest.name} has no graph of attention scores: it is a generator, or an earlier version of "
            f"scgpt-infer exported it. It can {', '.join(abilities(manifest))}. Export its checkpoint again "
            "(scgpt-infer export CHECKPOINT -o BUNDLE), or leave --condition and --targets out for a network from "
            "embeddings."
        )
    graph = bundle.graph("attention", "fp32")
    if all(spec.name != "batch" for spec in graph.inputs):
        return None
    if how.batches.batch is None:
        there = ", ".join(source.cell_columns) or "no columns"
        raise OptionError(
            f"The model {manifest.name} normalises by batch, so it needs the batch of each cell. Name its column of "
            f"obs (--batch, batches=...); obs has {there}. The model knows {', '.join(manifest.batches)}."
        )
    names = source.cell_column(how.batches.batch)[:n_cells]
    return label_cells(names, manifest.batches, how.batches, f"the model {manifest.name}")


def _genes(
    bundle: Bundle, source: CellSource, match: GeneMatch, how: AttentionOptions, options: EmbedOptions, n_cells: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    """Token ids of the chosen genes and of the targets among them, and names that cannot be had."""
    vocabulary = bundle.vocabulary()
    there = np.zeros(len(vocabulary), bool)
    there[match.columns[match.columns >= 0]] = True
    there &= taking_part(vocabulary, bundle.manifest.binning_genes)
    targets, unknown = _asked(how.targets, vocabulary, options, there)
    if how.targets and not len(targets):
        raise GenesError(
            f"None of the targets ({', '.join(unknown[:5])}) is known to the model and among the genes of the cells. "
            "Check their names (--targets, targets), or how genes are matched (--genes alias)."
        )
    if how.only:
        chosen, missing = _asked(how.only, vocabulary, options, there)
        unknown += missing
    else:
        allowed = (match.columns >= 0) & there[match.columns]
        groups = Groups(("",), np.zeros(n_cells, np.int64))
        chosen = match.columns[most_variable(expression(source, groups), how.variable, allowed)]
    ids = np.unique(np.concatenate([chosen, targets]))
    if len(ids) < 2:
        raise GenesError(
            f"{len(ids)} of the genes can be taken, and a network needs two or more. Ask for more (--variable, --only)."
        )
    return ids, targets if how.targets else ids, unknown


def _asked(
    names: tuple[str, ...], vocabulary: Vocabulary, options: EmbedOptions, there: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Token ids of genes by name, and the names of those that cannot be had."""
    if not names:
        return np.empty(0, np.int64), ()
    found = wanted_genes(names, vocabulary, options.genes)
    lacking = tuple(vocabulary.tokens[token] for token in found.ids[~there[found.ids]].tolist())
    return found.ids[there[found.ids]], (*found.unknown, *lacking)


def _network(
    scores: AttentionScores,
    conditions: Conditions,
    targets: NDArray[np.int64],
    top: int,
    vocabulary: Vocabulary,
    record: Record,
) -> GeneNetwork:
    means = {"against": scores.mean(conditions.against)}
    if conditions.control is not None:
        means = {"control": scores.mean(conditions.control), **means}
    weights = means["against"] - means["control"] if "control" in means else means["against"]
    names = np.array([vocabulary.tokens[token] for token in scores.ids.tolist()])
    to = np.searchsorted(scores.ids, targets)
    found = [edges_to(weights, names, place, top) for place in to.tolist()]
    source = np.repeat(to, [len(places) for places in found])
    target = np.concatenate(found)
    order = np.lexsort((names[target], names[source], -weights[target, source]))
    source, target = source[order], target[order]
    kept = np.unique(np.concatenate([source, target]))
    values = {name: mean[target, source].astype(np.float32) for name, mean in means.items()} if len(means) > 1 else {}
    return GeneNetwork(
        tuple(names[kept].tolist()),
        np.searchsorted(kept, source).astype(np.int32),
        np.searchsorted(kept, target).astype(np.int32),
        weights[target, source].astype(np.float32),
        directed=True,
        record=record,
        edge_values=values,
    )


def _record(facts: Record, how: AttentionOptions, conditions: Conditions, scores: AttentionScores) -> Record:
    """Facts of the run; batches and lengths are not the user's here."""
    cells = dict(zip(scores.conditions, scores.divisors.tolist(), strict=True))
    told = {
        "network_condition": how.condition,
        "network_control": conditions.control,
        "network_against": conditions.against if how.condition else None,
        "network_cells_control": None if conditions.control is None else cells[conditions.control],
    }
    passing = ("key", "batch_tokens", "max_length", "sample", "n_without_embedding")
    return {
        **{name: value for name, value in facts.items() if name not in passing},
        "result": "gene_network",
        "n_bad": len(scores.bad),
        "network_from": "attention",
        **{name: value for name, value in told.items() if value is not None},
        "network_cells_against": cells[conditions.against],
        "network_cells_without": conditions.n_without,
        "network_cells_others": conditions.n_others,
        "network_genes": len(scores.ids),
        "network_top": how.top,
        "network_compat": int(how.compat),
    }
