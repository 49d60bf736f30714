"""Cells of a request become tokens: `tokens_of`.

In: `Cells`, whose genes were looked up. Out: the `TokenBlock` that the same cells of a file become.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.server.asking import Cells
from scgpt_runtime.cells import CellBlock, TokenBlock

__all__ = ["tokens_of"]

Tokenise = Callable[[CellBlock, NDArray[np.int64]], TokenBlock]

_VALUES = 1 << 16
"""Values that are tokenised at a time: each is a column, and every row looks over the columns of all."""


def tokens_of(cells: Cells, tokenise: Tokenise, *, alone: bool = False) -> TokenBlock:
    """The tokens of cells.

    Parameters
    ----------
    cells
        Of a request. Every value stands in a column of its own, so that a gene that a cell has twice stays two tokens.
    tokenise
        As `scgpt_runtime.engine.Engine.tokenise`.
    alone
        Whether a cell's genes are those that are told of it, zeros among them, for a model that is shown zeros.
    """
    blocks = [_of(cells, rows, tokenise) for rows in _runs(cells.indptr, alone)]
    if len(blocks) == 1:
        return blocks[0]
    return TokenBlock(
        ids=np.concatenate([block.ids for block in blocks]),
        values=np.concatenate([block.values for block in blocks]),
        offsets=np.concatenate([[0], np.cumsum(np.concatenate([np.diff(block.offsets) for block in blocks]))]).astype(
            np.int64
        ),
        faults=np.concatenate([block.faults for block in blocks]),
        first_row=0,
    )


def _of(cells: Cells, rows: range, tokenise: Tokenise) -> TokenBlock:
    start, stop = int(cells.indptr[rows.start]), int(cells.indptr[rows.stop])
    indptr = cells.indptr[rows.start : rows.stop + 1] - start
    indices = np.arange(stop - start, dtype=np.int32)
    block = CellBlock(indptr, indices, cells.values[start:stop], rows.start)
    return tokenise(block, cells.tokens[start:stop].astype(np.int64))


def _runs(indptr: NDArray[np.int64], alone: bool) -> Iterator[range]:
    """Consecutive cells of about `_VALUES` values, at least one."""
    first, n_cells = 0, len(indptr) - 1
    while first < n_cells:
        until = int(np.searchsorted(indptr, indptr[first] + _VALUES, side="right")) - 1
        last = first + 1 if alone else max(first + 1, until)
        yield range(first, last)
        first = last
