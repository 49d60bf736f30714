"""The noun of this package: `GeneNetwork`, genes and weighted edges between them, however they were found.

Plain arrays with names. It knows no model, no cells and no file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.writers.sink import Record

__all__ = ["GeneNetwork", "GroupScores"]

Numbers = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class GroupScores:
    """How active each metagene is in each group of cells.

    Attributes
    ----------
    by
        Column of ``obs`` that groups come from.
    groups
        Names of the groups, in alphabetical order.
    cells
        (n_groups,) int64 cells of each.
    scores
        (n_metagenes, n_groups) float32 mean score; NaN where no gene of the metagene is among the cells' genes.
    scaled
        The same from 0, the lowest group of a metagene, to 1, its highest.
    """

    by: str
    groups: tuple[str, ...]
    cells: NDArray[np.int64]
    scores: Numbers
    scaled: Numbers


@dataclass(frozen=True, slots=True)
class GeneNetwork:
    """Genes, and edges between them.

    Attributes
    ----------
    genes
        (n_genes,) names in the vocabulary; edges tell genes by their place here.
    source, target
        (n_edges,) int32 genes of each edge, never the same one twice. Where edges have no direction the source comes
        first in `genes`.
    weight
        (n_edges,) float32; edges are sorted by what they tell, the strongest first.
    directed
        Whether an edge leads from its source to its target.
    record
        Facts of the run.
    metagenes
        (n_genes,) int32 metagene of each gene, counted from 1, the largest first; 0 for a gene in none. None: nobody
        looked for any.
    edge_values
        Further numbers of the edges by name, (n_edges,) float32 each.
    gene_values
        Numbers of the genes by name, (n_genes,) float32 each.
    scores
        Metagenes in groups of cells; None where no cells were given.
    """

    genes: tuple[str, ...]
    source: NDArray[np.int32]
    target: NDArray[np.int32]
    weight: Numbers
    directed: bool
    record: Record
    metagenes: NDArray[np.int32] | None = None
    edge_values: Mapping[str, Numbers] = field(default_factory=dict)
    gene_values: Mapping[str, Numbers] = field(default_factory=dict)
    scores: GroupScores | None = None

    @property
    def gene_lists(self) -> dict[str, tuple[str, ...]]:
        """Names of the genes of each metagene, ``metagene_1`` first.

        The genes that its edges join most come first, by the sum of the weights inside.
        """
        if self.metagenes is None:
            return {}
        ends = self.metagenes[self.source], self.metagenes[self.target]
        inside = (ends[0] == ends[1]) & (ends[0] > 0)
        both = np.concatenate([self.source[inside], self.target[inside]])
        joined = np.bincount(both, np.tile(self.weight[inside], 2), len(self.genes))
        order = np.lexsort((-joined, self.metagenes))  # stable: equal ones in the order of genes
        borders = np.searchsorted(self.metagenes[order], np.arange(1, int(self.metagenes.max(initial=0)) + 2))
        return {
            f"metagene_{number}": tuple(self.genes[place] for place in order[start:stop])
            for number, (start, stop) in enumerate(pairwise(borders.tolist()), start=1)
        }
