"""What genes do in cells, in one pass: sums over cells of values that are scaled to one total.

In: open cells, their groups. Out: `Expression`. One block of cells is there at a time. It knows no model.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.gene_vectors.groups import Groups
from scgpt_infer.interrupts import honour
from scgpt_infer.readers import CellSource
from scgpt_infer.spans import grid
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import CellsError

__all__ = ["TOTAL", "Expression", "expression"]

TOTAL = 10_000.0
"""What the values of a cell are scaled to add up to."""

Sums = NDArray[np.float64]


@dataclass(slots=True)
class Expression:
    """Sums over the cells that can be used.

    Attributes
    ----------
    values, squares
        (n_genes,) sums of scaled values and of their squares.
    logs
        (n_groups + 1, n_genes) sums of log1p of scaled values in each group; the last row is cells without a group.
    cells
        (n_groups + 1,) int64 cells in each.
    n_bad
        Cells that were left out: without counts, or with a value that is negative or not finite.
    """

    values: Sums
    squares: Sums
    logs: Sums
    cells: NDArray[np.int64]
    n_bad: int = 0

    @property
    def n_cells(self) -> int:
        """Cells that were added."""
        return int(self.cells.sum())

    @property
    def group_means(self) -> Sums:
        """(n_groups, n_genes) mean log1p of each group; 0 for a group without cells."""
        means: Sums = self.logs[:-1] / np.maximum(self.cells[:-1], 1)[:, None]
        return means

    @property
    def means(self) -> Sums:
        """(n_genes,) mean log1p over all cells."""
        means: Sums = self.logs.sum(axis=0) / self.n_cells
        return means

    def add(self, block: CellBlock, codes: NDArray[np.int64], *, logged: bool) -> None:
        """Add cells; ``codes`` are their groups, -1 for none."""
        rows = np.repeat(np.arange(block.n_cells), np.diff(block.indptr))
        data = block.data.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            data = np.expm1(data) if logged else data
            totals = np.bincount(rows, data, block.n_cells)
            wrong = ~(data >= 0) | (block.indices < 0) | (block.indices >= len(self.values))
        good = np.isfinite(totals) & (totals > 0)
        good[rows[wrong]] = False
        self.n_bad += int((~good).sum())
        kept = good[rows]
        rows, genes = rows[kept], block.indices[kept]
        scaled = data[kept] * (TOTAL / totals[rows])
        self.values += np.bincount(genes, scaled, len(self.values))
        self.squares += np.bincount(genes, scaled**2, len(self.values))
        np.add.at(self.logs, (codes[rows], genes), np.log1p(scaled))  # code -1 is the last row
        np.add.at(self.cells, codes[good], 1)


def expression(source: CellSource, groups: Groups, tick: Callable[[int], None] = lambda cells: None) -> Expression:
    """Go through the cells once, those of the file that have a place in ``groups``.

    Parameters
    ----------
    source
        Open cells; values that were logged are taken back first.
    groups
        Group of each of the first cells, as many as are read.
    tick
        Told of each number of cells that was added.

    Raises
    ------
    CellsError
        No cell can be used.
    """
    n_genes, n_groups, n_cells = source.n_genes, len(groups.names), len(groups.codes)
    found = Expression(
        np.zeros(n_genes), np.zeros(n_genes), np.zeros((n_groups + 1, n_genes)), np.zeros(n_groups + 1, np.int64)
    )
    for block in source.blocks(grid(n_cells)):
        honour()
        codes = groups.codes[block.first_row : block.first_row + block.n_cells]
        found.add(block, codes, logged=source.values == "log1p")
        tick(block.n_cells)
    if not found.n_cells:
        raise CellsError(
            f"None of the {n_cells:,} cells can be used: they have no counts, or values that are negative or not "
            "finite. Check where the counts are (--layer)."
        )
    return found
