"""The embedding task: the model's raw cell vectors in, unit vectors with reasons for the missing ones out."""

import numpy as np

from scgpt_infer.writers.sink import Part
from scgpt_runtime.cells import CellFault, Result

__all__ = ["embedding"]


def embedding(result: Result) -> Part:
    """L2-normalised embeddings of a block, NaN where a cell has none.

    The norm is taken in float32 without an epsilon, as in scGPT's ``cell_emb.py``.

    Parameters
    ----------
    result
        Result of an ``embed`` graph: output ``cell``, (n_cells, dim) float32.

    Returns
    -------
    Part
        The same rows. No row with a reason has a vector, and no row without one lacks it.
    """
    raw = np.asarray(result.outputs["cell"], dtype=np.float32)  # (n_cells, dim)
    reasons = [CellFault(fault).reason for fault in result.faults.tolist()]
    with np.errstate(all="ignore"):  # rows of bad cells are NaN, and stay so
        vectors = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    finite = np.isfinite(vectors).all(axis=1)
    for row in np.flatnonzero(~finite).tolist():
        reasons[row] = reasons[row] or CellFault.NOT_FINITE.reason
    vectors[[bool(reason) for reason in reasons]] = np.nan
    return Part(first_row=result.first_row, vectors=vectors, reasons=tuple(reasons))
