"""TokenBlock -> batches: cells of like length together, under a budget of padded tokens.

In: ragged tokens. Out: rectangles. What goes together depends on the block and the budget alone, never on
timing, threads or free memory. It knows nothing of models.
"""

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.cells import Batch, TokenBlock
from scgpt_runtime.manifest import TokenizerSettings

__all__ = ["batches"]


def batches(tokens: TokenBlock, settings: TokenizerSettings, budget: int, step: int = 1) -> list[Batch]:
    """Cut a block into batches, longest cells first.

    Parameters
    ----------
    tokens
        Cells without tokens are left out.
    settings
        Give the id and the value that padding carries.
    budget
        Largest number of cells times length; one cell that is longer still makes a batch of its own.
    step
        Lengths of batches are multiples of this, for a provider to which each new length is work and memory.

    Returns
    -------
    list of Batch
        Together they hold every cell that has tokens, once.
    """
    lengths = np.diff(tokens.offsets)
    # Longest first: the largest buffers are made once, at the start, and out of memory shows at once.
    order = np.argsort(-lengths, kind="stable")
    order = order[: np.count_nonzero(lengths)]
    made, start = [], 0
    while start < len(order):
        longest = -(-int(lengths[order[start]]) // step) * step
        stop = start + max(1, budget // longest)
        made.append(_pad(tokens, settings, order[start:stop], longest))
        start = stop
    return made


def _pad(tokens: TokenBlock, settings: TokenizerSettings, cells: NDArray[np.int64], length: int) -> Batch:
    binned = tokens.values.dtype == np.uint8
    ids = np.full((len(cells), length), settings.pad_id, tokens.ids.dtype)
    values = np.full((len(cells), length), settings.pad_code if binned else settings.pad_value, tokens.values.dtype)
    lengths = np.empty(len(cells), np.int32)
    for row, cell in enumerate(cells):
        start, stop = tokens.offsets[cell], tokens.offsets[cell + 1]
        lengths[row] = stop - start
        ids[row, : stop - start] = tokens.ids[start:stop]
        values[row, : stop - start] = tokens.values[start:stop]
    return Batch(ids, values, lengths, cells.astype(np.int64))
