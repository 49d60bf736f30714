"""How active metagenes are in groups of cells: `Expression` and columns of genes in, `GroupScores` out.

The rule is that of scanpy's ``score_genes`` (Tirosh et al. 2016, doi:10.1126/science.aad0501) without its draw. A score
is linear in the cells, so the mean score of a group follows from its mean values, and no cell is kept.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.gene_vectors.groups import Groups
from scgpt_infer.networks.expression import Expression
from scgpt_infer.networks.network import GroupScores

__all__ = ["group_scores"]

_BINS = 25
_DRAWN = 50


def group_scores(found: Expression, groups: Groups, by: str, sets: Sequence[NDArray[np.int64]]) -> GroupScores:
    """Score sets of genes in groups of cells.

    The score of a set is the mean log1p value of its genes less that of its control genes: all other genes of those of
    25 bins by mean value that its genes lie in. scanpy draws 50 genes from each of these bins, or takes all where there
    are fewer; the mean of each bin with that weight is what it would draw in the mean, and needs no seed.

    Parameters
    ----------
    found
        Sums over the cells.
    groups, by
        The groups, and the column that they come from.
    sets
        Columns of the genes of each set; one without any gets NaN.
    """
    means = found.group_means  # (n_groups, n_genes)
    bins = _bins(found.means)
    scores = np.full((len(sets), len(groups.names)), np.nan)
    for row, columns in enumerate(sets):
        if len(columns):
            scores[row] = means[:, columns].mean(axis=1) - _control(means, bins, columns)
    return GroupScores(
        by, groups.names, found.cells[:-1], scores.astype(np.float32), _scaled(scores).astype(np.float32)
    )


def _control(means: NDArray[np.float64], bins: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n_groups,) mean of the control genes, no bin weighing more than `_DRAWN` genes; 0 where there are none."""
    others = np.isin(bins, bins[columns])
    others[columns] = False
    if not others.any():
        return np.zeros(len(means))
    in_bin = np.bincount(bins[others])[bins[others]]  # (n_others,)
    control: NDArray[np.float64] = np.average(means[:, others], axis=1, weights=np.minimum(1, _DRAWN / in_bin))
    return control


def _bins(means: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bin of each gene by the rank of its mean; genes of one mean share the lowest rank."""
    size = max(round(len(means) / (_BINS - 1)), 1)
    ranks = np.searchsorted(np.sort(means), means, side="left") + 1
    bins: NDArray[np.int64] = ranks // size
    return bins


def _scaled(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each row from 0 to 1; 0 where all groups have one score."""
    if not scores.shape[1]:
        return scores
    low, high = scores.min(axis=1, keepdims=True), scores.max(axis=1, keepdims=True)
    spread = high - low
    scaled: NDArray[np.float64] = np.where(spread > 0, (scores - low) / np.where(spread > 0, spread, 1), 0 * scores)
    return scaled
