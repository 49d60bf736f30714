"""One answer for each cell, made of a graph's answers for its tokens: the seam `Fold`, and the folds there are.

In: a batch and what a graph answered for each of its tokens. Out: rows by output name, one a cell. They know no model.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.cells import AnyBatch

__all__ = ["Fold", "MaskedMean"]


class Fold(Protocol):
    """Turns the answers for tokens into one answer a cell. It runs on each instance, several batches at a time.

    Whatever a cell's row is made of, it is the cell's own tokens alone: padding, and the other cells of the batch, have
    no part in it.
    """

    @property
    def pooling(self) -> str:
        """Its name among the ways to take a cell's vector from hidden states: part of the id of vectors."""
        ...

    def outputs(self, dim: int) -> dict[str, tuple[int, ...]]:
        """Output name to the shape of one cell's row, for hidden states that are `dim` wide."""
        ...

    def __call__(self, batch: AnyBatch, answers: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Rows of the batch's cells.

        Parameters
        ----------
        batch
            What was answered; ``lengths`` says how many tokens of each row are the cell's.
        answers
            Output name to (n_cells, length, ...), as the graph gave it.
        """
        ...


class MaskedMean:
    """The mean of a cell's hidden states over its genes: ``<cls>`` and padding are left out.

    Sums are taken in float64 and in one order, so that company and padding cannot show.
    """

    @property
    def pooling(self) -> str:
        """``mean``; that of checkpoints that were trained with a mean, ``avg-pool``, has ``<cls>`` in it."""
        return "mean"

    def outputs(self, dim: int) -> dict[str, tuple[int, ...]]:
        """One vector, under the name that ``embed`` graphs give theirs."""
        return {"cell": (dim,)}

    def __call__(self, batch: AnyBatch, answers: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """(n_cells, dim) float32 means of output ``hidden``, (n_cells, length, dim); NaN for a cell without a gene."""
        hidden = answers["hidden"]
        cells = np.empty((len(batch.cells), hidden.shape[2]), np.float32)
        with np.errstate(all="ignore"):  # what overflows, or has no genes, is no vector, and is told as such later
            for row, length in enumerate(batch.lengths.tolist()):
                cells[row] = hidden[row, 1:length].sum(axis=0, dtype=np.float64) / (length - 1)
        return {"cell": cells}
