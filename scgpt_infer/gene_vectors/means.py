"""What the model makes of genes in cells: the mean of each gene's hidden states, over all cells or groups of them.

In: an open engine, open cells, wanted genes. Out: means and numbers of cells. Nothing holds more than a few cells.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.gene_vectors.groups import Groups
from scgpt_infer.gene_vectors.stream import hidden_states
from scgpt_infer.gene_vectors.sums import Sums
from scgpt_infer.readers import CellSource
from scgpt_infer.sizes import size
from scgpt_infer.summary import BadCell
from scgpt_infer.wanted import WantedGenes
from scgpt_runtime.cells import CellFault, Result, TokenBlock
from scgpt_runtime.engine import Engine
from scgpt_runtime.errors import CellsError, OptionError
from scgpt_runtime.machine import free_memory
from scgpt_runtime.vocab import taking_part

__all__ = ["Means", "Seen", "Watch", "means_in_cells", "possible_genes"]


@dataclass(slots=True)
class Seen:
    """What came of the cells: how many, which are bad, and the tokens of the longest."""

    n_cells: int
    bad: list[BadCell]
    longest: int


class Watch:
    """Counts the cells of a stream and lists the bad ones.

    Parameters
    ----------
    source
        Knows the names of cells.
    """

    def __init__(self, source: CellSource) -> None:
        self._source = source
        self.seen = Seen(0, [], 0)

    def take(self, result: Result) -> None:
        """The next block."""
        rows = np.flatnonzero(result.faults).tolist()
        if rows:
            names = self._source.cell_names(result.first_row, result.first_row + result.n_cells)
            self.seen.bad += [
                BadCell(result.first_row + row, names[row], CellFault(result.faults[row]).reason) for row in rows
            ]
        self.seen.n_cells += result.n_cells
        self.seen.longest = max(self.seen.longest, int(result.lengths.max(initial=0)))

    def done(self) -> Seen:
        """What was seen.

        Raises
        ------
        CellsError
            No cell has hidden states.
        """
        seen = self.seen
        if len(seen.bad) == seen.n_cells:
            reasons = ", ".join(sorted({cell.reason for cell in seen.bad})) or "there are none"
            raise CellsError(
                f"None of the {seen.n_cells:,} cells can be used ({reasons}), so nothing was written. Check that the "
                "counts are where they were taken from (--layer), and that the gene names are the right ones "
                "(--gene-col)."
            )
        return seen


@dataclass(frozen=True, slots=True)
class Means:
    """Means of hidden states.

    Attributes
    ----------
    ids, groups
        (n_rows,) token id and group of each mean.
    vectors
        (n_rows, dim) float32.
    cells
        (n_rows,) int64 cells behind each.
    seen
        What came of the cells.
    """

    ids: NDArray[np.int64]
    groups: NDArray[np.int64]
    vectors: NDArray[np.float32]
    cells: NDArray[np.int64]
    seen: Seen


def possible_genes(engine: Engine, columns: NDArray[np.int64], wanted: WantedGenes) -> NDArray[np.int64]:
    """Token ids of the wanted genes that a source has and the model takes, in the order in which they are wanted."""
    among = taking_part(engine.vocabulary, engine.bundle.manifest.binning_genes)
    there = np.zeros(len(among), bool)
    there[columns[columns >= 0]] = True
    return wanted.ids[(among & there)[wanted.ids]]


def means_in_cells(
    engine: Engine,
    source: CellSource,
    columns: NDArray[np.int64],
    ids: NDArray[np.int64],
    groups: Groups,
    min_cells: int = 1,
    tick: Callable[[int], None] = lambda cells: None,
) -> Means:
    """Take the mean of each gene's hidden states in each group.

    The sums are exact, so no order of cells, batches or threads can show. Cells that are longer than the model takes
    count for the genes that they keep.

    Parameters
    ----------
    engine
        From `open_states`.
    source, columns
        Open cells, and the token id of each of their columns.
    ids
        Genes that count, from `possible_genes`.
    groups
        Of the cells that are taken.
    min_cells
        Fewer cells of a group make no mean.
    tick
        Told of each number of cells that is answered.

    Raises
    ------
    CellsError
        No cell has hidden states.
    OptionError
        There is not enough memory for the sums.
    """
    dim, n_genes = engine.bundle.manifest.dim, len(ids)
    _check_memory(len(groups.names) * n_genes, dim)
    sums, watch = Sums(len(groups.names) * n_genes, dim), Watch(source)
    slot_of = np.full(len(engine.vocabulary), -1, np.int64)
    slot_of[ids] = np.arange(n_genes)
    for result, tokens in hidden_states(engine, source, columns, limit=len(groups.codes), tick=tick):
        watch.take(result)
        sums.add(result.outputs["hidden"], _rows(result, tokens, slot_of, groups, n_genes))
    rows = np.flatnonzero(sums.counts >= min_cells)
    return Means(
        ids[rows % max(n_genes, 1)], rows // max(n_genes, 1), sums.means(rows), sums.counts[rows], watch.done()
    )


def _rows(
    result: Result, tokens: TokenBlock, slot_of: NDArray[np.int64], groups: Groups, n_genes: int
) -> NDArray[np.int64]:
    """(n_tokens,) which sum each token belongs to, -1 for none: ``<cls>``, bad cells, other genes."""
    cells = np.arange(tokens.n_cells)
    group = np.where(result.faults == CellFault.NONE, groups.codes[result.first_row + cells], -1)
    group_of = np.repeat(group, np.diff(tokens.offsets))
    slots = slot_of[tokens.ids]
    rows: NDArray[np.int64] = np.where((slots >= 0) & (group_of >= 0), group_of * n_genes + slots, -1)
    return rows


def _check_memory(n_rows: int, dim: int) -> None:
    needed, free = Sums.bytes_of(n_rows, dim), free_memory()
    if free is not None and needed > free:
        raise OptionError(
            f"Sums for {n_rows:,} genes (of all groups together) take {size(needed)} of memory, and {size(free)} are "
            "free. Ask for fewer genes (--only), or a column with fewer groups (--by)."
        )
