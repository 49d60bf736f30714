"""From bins back to a cell's own scale, through the edges between its bins.

In: values of a cell, and real numbers in units of bins. Out: numbers on the scale of the values. It knows no model.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["edges_of", "expected", "to_scale"]


def edges_of(values: NDArray[np.float32], n_bins: int) -> NDArray[np.float64]:
    """Edges between the bins of one cell: quantiles of its values that are not zero, as scGPT's ``binning`` takes them.

    Parameters
    ----------
    values
        (n,) the values that were binned, none of them zero, n at least 1.
    n_bins
        Bins of the model, that of zero among them.

    Returns
    -------
    (n_bins - 1,) ascending; the first is the least value, the last the greatest.
    """
    return np.quantile(values.astype(np.float64), np.linspace(0, 1, n_bins - 1))


def to_scale(bins: NDArray[np.float32], edges: NDArray[np.float64]) -> NDArray[np.float32]:
    """Numbers in units of bins on the scale of each cell.

    Bin 0 is zero and bin b begins at edge b, so bin 1 is the cell's least value and the highest bin its greatest, and a
    value that is an edge comes back as it was. Between whole bins the scale is a straight line, below 0 it is zero, and
    above the highest bin it is the greatest value.

    Parameters
    ----------
    bins
        (n_cells, n) in units of bins.
    edges
        (n_cells, n_bins - 1) of each cell.
    """
    table = np.concatenate([np.zeros((len(edges), 1)), edges], axis=1)  # (n_cells, n_bins)
    place = np.clip(np.nan_to_num(bins, nan=0.0).astype(np.float64), 0, table.shape[1] - 1)
    below = np.minimum(place.astype(np.int64), table.shape[1] - 2)
    low, high = np.take_along_axis(table, below, axis=1), np.take_along_axis(table, below + 1, axis=1)
    scaled = low + (high - low) * (place - below)
    return np.where(np.isnan(bins), np.nan, scaled).astype(np.float32)


def expected(
    bins: NDArray[np.float32], nonzero: NDArray[np.float32], edges: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Expected values on the scale of each cell, zeros weighed in.

    A model with explicit zeros learns bins as means over zero and non-zero entries, as scGPT trains it. The scale is
    not a straight line at bin 1, so the mean is taken apart first: the bin of an entry that is not zero is ``bins /
    nonzero``, and its value counts as often as it is there.

    Parameters
    ----------
    bins, edges
        See `to_scale`.
    nonzero
        (n_cells, n) probability that the entry is not zero.
    """
    there = np.maximum(nonzero, np.finfo(np.float32).tiny)
    with np.errstate(over="ignore"):  # what is infinite then is the greatest value, of which nothing is left
        given = to_scale(np.asarray(bins / there, np.float32), edges)
    return np.asarray(nonzero * given, np.float32)
