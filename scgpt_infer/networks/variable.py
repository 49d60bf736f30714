"""Which genes vary most from cell to cell: `Expression` in, columns out.

The rule is that of scanpy's ``highly_variable_genes`` with flavor ``seurat`` (Satija et al. 2015,
doi:10.1038/nbt.3192), which needs sums alone. It knows no names.
"""

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.networks.expression import Expression

__all__ = ["dispersions", "most_variable"]

_BINS = 20


def dispersions(found: Expression) -> NDArray[np.float64]:
    """(n_genes,) how far the dispersion of each gene lies above that of genes of like mean; NaN where it has none.

    The dispersion is log(variance / mean) of the values scaled to 10,000 a cell. Genes are cut into 20 bins of equal
    width by log1p(mean); the mean of a bin is taken off and its standard deviation divided by. A gene that is alone in
    its bin gets 1.
    """
    n = found.n_cells
    means = found.values / n
    variances = np.maximum(found.squares / n - means**2, 0) * (n / max(n - 1, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.log(np.where(variances > 0, variances / means, np.nan))
    bins = _bins(np.log1p(means))
    normed = np.full(len(means), np.nan)
    for number in range(_BINS):
        inside = (bins == number) & np.isfinite(spread)
        if inside.sum() == 1:
            normed[inside] = 1.0
        elif inside.any() and (width := spread[inside].std(ddof=1)) > 0:
            normed[inside] = (spread[inside] - spread[inside].mean()) / width
    return normed


def most_variable(found: Expression, n: int, allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The columns of the most variable genes, ascending; equal ones by their place, fewer where fewer vary.

    Parameters
    ----------
    found
        Sums over cells.
    n
        How many.
    allowed
        (n_genes,) which columns may be chosen.
    """
    normed = dispersions(found)
    columns = np.flatnonzero(allowed & np.isfinite(normed))
    order = np.argsort(-normed[columns], kind="stable")
    return np.sort(columns[order[:n]])


def _bins(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bins of equal width, closed to the right, the lowest a little wider: as pandas' ``cut`` has them."""
    low, high = values.min(), values.max()
    edges = np.linspace(low, high, _BINS + 1)
    edges[0] -= (high - low) * 0.001
    return np.clip(np.searchsorted(edges, values, side="left") - 1, 0, _BINS - 1)
