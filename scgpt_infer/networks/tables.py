"""A network as tables and lists: edges and genes as CSV, scores of groups as CSV, metagenes as GMT.

In: `GeneNetwork`. Out: text. Names are those of the vocabulary.
"""

import csv
import io
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.networks.network import GeneNetwork

__all__ = ["edge_table", "gene_sets", "gene_table", "score_table"]


def edge_table(network: GeneNetwork) -> str:
    """``source``, ``target``, ``weight`` and what else edges have, the strongest first."""
    names = np.array(network.genes, object)
    columns = {"weight": network.weight, **network.edge_values}
    rows = zip(
        names[network.source].tolist(),
        names[network.target].tolist(),
        *(_texts(values) for values in columns.values()),
        strict=True,
    )
    return _table(["source", "target", *columns], rows)


def gene_table(network: GeneNetwork) -> str:
    """``gene``, its number of edges, its metagene (empty for none) and what else genes have."""
    ends = np.concatenate([network.source, network.target])
    columns = {"edges": list(map(str, np.bincount(ends, minlength=len(network.genes)).tolist()))}
    if network.metagenes is not None:
        columns["metagene"] = [f"metagene_{number}" if number else "" for number in network.metagenes.tolist()]
    columns |= {name: _texts(values) for name, values in network.gene_values.items()}
    return _table(["gene", *columns], zip(network.genes, *columns.values(), strict=True))


def gene_sets(network: GeneNetwork) -> str:
    """Metagenes in GMT, as enrichment tools take them: name, description, genes, separated by tabs."""
    told = f"scgpt-infer {network.record['version']} {network.record['model']}"
    return "".join("\t".join([name, told, *genes]) + "\n" for name, genes in network.gene_lists.items())


def score_table(network: GeneNetwork) -> str:
    """``metagene``, ``group``, its ``cells``, ``score`` and ``scaled`` from 0 to 1; a row for each pair."""
    found = network.scores
    if found is None:
        return ""
    groups = list(zip(found.groups, map(str, found.cells.tolist()), strict=True))
    rows = (
        [name, *group, score, scaled]
        for name, scores, scaled_scores in zip(network.gene_lists, found.scores, found.scaled, strict=True)
        for group, score, scaled in zip(groups, _texts(scores), _texts(scaled_scores), strict=True)
    )
    return _table(["metagene", found.by, "cells", "score", "scaled"], rows)


def _texts(values: NDArray[np.float32]) -> list[str]:
    """The fewest digits that bring a float32 back; empty for none."""
    texts: list[str] = np.where(np.isnan(values), "", np.asarray(values, np.float32).astype("U16")).tolist()
    return texts


def _table(head: list[str], rows: Iterable[Iterable[str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()
