"""Labelled cells of a file, spread evenly over it, in memory.

In: a file of cells and names of columns of obs. Out: `LabelledCells`. It knows no model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers import open_cells
from scgpt_infer.spans import grid
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import CellsError
from scgpt_runtime.ranges import RANGE_ROWS

__all__ = ["LabelledCells", "joined", "read", "taken"]


@dataclass(frozen=True, slots=True)
class LabelledCells:
    """Cells with a label each.

    Attributes
    ----------
    block
        The cells.
    gene_names
        Gene names of its columns, by the column of ``var`` that they stand in.
    labels
        (n_cells,) label of each cell.
    batches
        (n_cells,) batch of each cell, or empty.
    """

    block: CellBlock
    gene_names: Mapping[str, Sequence[str]]
    labels: NDArray[np.str_]
    batches: NDArray[np.str_]

    def only(self, rows: NDArray[np.int64]) -> "LabelledCells":
        """Some of the cells, by row."""
        batches = self.batches[rows] if len(self.batches) else self.batches
        return LabelledCells(taken(self.block, rows), self.gene_names, self.labels[rows], batches)

    def blocks(self) -> list[CellBlock]:
        """The cells on the grid that engines take them on."""
        starts = range(0, self.block.n_cells, RANGE_ROWS)
        return [taken(self.block, np.arange(start, min(start + RANGE_ROWS, self.block.n_cells))) for start in starts]


def read(path: Path, label: str, limit: int, batch: str | None = None, layer: str | None = None) -> LabelledCells:
    """Read labelled cells, spread evenly over those of a file; cells without a label are left out.

    Parameters
    ----------
    path
        A file of cells.
    label, batch
        Columns of obs.
    limit
        Most cells.
    layer
        Where the counts are, see `scgpt_infer.readers.open_cells`.

    Raises
    ------
    CellsError
        The file cannot be read, has no such column, or no cell has a label.
    """
    with open_cells(path, layer=layer) as source:
        labels = source.cell_column(label)
        batches = source.cell_column(batch) if batch is not None else np.empty(0, str)
        known = np.flatnonzero(labels != "")
        if len(known) == 0:
            raise CellsError(f"Column {label!r} of obs of {path} is empty for all {len(labels):,} cells.")
        rows = known[np.unique(np.linspace(0, len(known) - 1, min(limit, len(known))).astype(np.int64))]
        parts = [
            taken(block, rows[(rows >= block.first_row) & (rows < block.first_row + block.n_cells)] - block.first_row)
            for block in source.blocks(grid(source.n_cells))
        ]
        names = {column: tuple(found) for column, found in source.gene_names.items()}
    return LabelledCells(joined(parts), names, labels[rows], batches[rows] if batch is not None else batches)


def taken(block: CellBlock, rows: NDArray[np.int64]) -> CellBlock:
    """Some rows of a block, in the order given; they count from 0."""
    lengths = np.diff(block.indptr)[rows]
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    where = np.arange(indptr[-1]) + np.repeat(block.indptr[rows] - indptr[:-1], lengths)
    return CellBlock(indptr, block.indices[where], block.data[where], 0)


def joined(parts: Sequence[CellBlock]) -> CellBlock:
    """The cells of several blocks as one; they count from 0."""
    lengths = np.concatenate([np.diff(part.indptr) for part in parts])
    return CellBlock(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.concatenate([part.indices for part in parts]),
        np.concatenate([part.data for part in parts]),
        0,
    )
