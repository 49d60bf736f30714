"""The embedding task: the model's raw cell vectors in, unit vectors with reasons for the missing ones out."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.writers.sink import Column, Kind, Part, Record
from scgpt_runtime.cells import CellFault, Result

__all__ = ["Embedding", "as_stored", "embedding"]


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
    with np.errstate(all="ignore"):  # rows of bad cells are NaN, and stay so
        vectors = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    return _part(result, vectors)


def as_stored(result: Result) -> Part:
    """Unit vectors of an earlier run as they are: to normalise them again would move their last bits."""
    return _part(result, np.array(result.outputs["cell"], np.float32))


def _part(result: Result, vectors: NDArray[np.float32]) -> Part:
    reasons = [CellFault(fault).reason for fault in result.faults.tolist()]
    finite = np.isfinite(vectors).all(axis=1)
    for row in np.flatnonzero(~finite).tolist():
        reasons[row] = reasons[row] or CellFault.NOT_FINITE.reason
    vectors[[bool(reason) for reason in reasons]] = np.nan
    return Part(first_row=result.first_row, vectors=vectors, reasons=tuple(reasons))


@dataclass(frozen=True, slots=True)
class Embedding:
    """Vectors and nothing else.

    Attributes
    ----------
    vectors
        Makes rows of vectors from the model's answers.
    """

    vectors: Callable[[Result], Part] = embedding
    columns: tuple[Column, ...] = ()
    kind: Kind = "embeddings"

    @property
    def facts(self) -> Record:
        """Nothing that a run of a model does not tell itself."""
        return {}

    def __call__(self, result: Result) -> Part:
        """The vectors of a block."""
        return self.vectors(result)
