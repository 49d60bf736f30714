"""Blocks of cells cut into what goes into one request: `pieces`.

In: rows of a matrix. Out: `Piece`s whose columns all exist, with zeros where the model takes them for tokens. It knows
no names of genes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from scgpt_runtime.cells import CellBlock, CellFault

__all__ = ["VALUES_PER_REQUEST", "Most", "Piece", "halves", "pieces"]

VALUES_PER_REQUEST = 2**21
"""Values beyond which fewer cells go into one request: 16 MiB as they travel, a quarter of what servers take."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Cells of one request.

    Attributes
    ----------
    block
        The cells.
    broken
        Rows that are sent without a value, since what they have is in no column, with the reason.
    """

    block: CellBlock
    broken: Mapping[int, str] = field(default_factory=dict)


@dataclass(slots=True)
class Most:
    """Most cells of a piece: fewer, from the moment that a server has refused so many."""

    cells: int


def pieces(block: CellBlock, n_genes: int, most: Most, *, zeros: bool) -> Iterator[Piece]:
    """Cut a block.

    Parameters
    ----------
    block
        Cells.
    n_genes
        Columns of their matrix.
    most
        Most cells of a piece; fewer where they have more than `VALUES_PER_REQUEST` values together. It is looked at
        anew for each.
    zeros
        Whether each cell is to have a value in each column.
    """
    filled = max(1, VALUES_PER_REQUEST // n_genes) if zeros else block.n_cells
    start = 0
    while start < block.n_cells:
        fitting = int(np.searchsorted(block.indptr, block.indptr[start] + VALUES_PER_REQUEST, "right")) - 1
        stop = min(max(start + 1, fitting), start + min(most.cells, filled), block.n_cells)
        piece = _whole(_cut(block, start, stop), n_genes)
        yield Piece(_with_zeros(piece.block, n_genes), piece.broken) if zeros else piece
        start = stop


def halves(piece: Piece) -> tuple[Piece, Piece]:
    """A piece of two cells or more as two."""
    block, middle = piece.block, piece.block.n_cells // 2
    first, second = _cut(block, 0, middle), _cut(block, middle, block.n_cells)
    return Piece(first, piece.broken), Piece(second, piece.broken)


def _cut(block: CellBlock, start: int, stop: int) -> CellBlock:
    first, last = block.indptr[start], block.indptr[stop]
    indptr = block.indptr[start : stop + 1] - first
    return CellBlock(indptr, block.indices[first:last], block.data[first:last], block.first_row + start)


def _whole(block: CellBlock, n_genes: int) -> Piece:
    """Cells whose columns all exist; one that has another is left without a value."""
    outside = (block.indices < 0) | (block.indices >= n_genes)
    if not outside.any():
        return Piece(block)
    rows = np.repeat(np.arange(block.n_cells), np.diff(block.indptr))
    bad = np.unique(rows[outside])
    there = ~np.isin(rows, bad)
    counts = np.bincount(rows[there], minlength=block.n_cells)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    broken = {block.first_row + row: CellFault.BAD_INDEX.reason for row in bad.tolist()}
    return Piece(CellBlock(indptr, block.indices[there], block.data[there], block.first_row), broken)


def _with_zeros(block: CellBlock, n_genes: int) -> CellBlock:
    """The same cells with a value in each column; values of one column are summed, in float64, as an engine does."""
    dense = np.zeros((block.n_cells, n_genes))
    rows = np.repeat(np.arange(block.n_cells), np.diff(block.indptr))
    np.add.at(dense, (rows, block.indices), block.data.astype(np.float64))
    indptr = np.arange(block.n_cells + 1, dtype=np.int64) * n_genes
    indices = np.tile(np.arange(n_genes, dtype=np.int32), block.n_cells)
    return CellBlock(indptr, indices, dense.ravel().astype(np.float32), block.first_row)
