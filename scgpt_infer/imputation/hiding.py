"""Cells of which some genes are hidden: each becomes one row, or one for each gene, that the model is asked about.

In: blocks of cells and the token ids that are asked for. Out: blocks of rows without the measured values of those
genes, and their tokens with masks. What is predicted so never depends on a measured value that is hidden. It knows no
graph.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.imputation.asked import Hide
from scgpt_infer.imputation.scale import edges_of
from scgpt_infer.integration.answering import with_labels
from scgpt_runtime.cells import CellBlock, CellFault, TokenBlock
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.ranges import RANGE_ROWS
from scgpt_runtime.tokenizer import tokenize

__all__ = ["Hiding", "Rows"]


@dataclass(frozen=True, slots=True)
class Rows:
    """What is known of the rows of a block beside the model's answer.

    Attributes
    ----------
    hidden
        (n_rows,) whether a measured value of the row was taken out.
    edges
        (n_rows, n_bins - 1) edges between the row's bins; NaN for a bad row, and None where nobody asks.
    """

    hidden: NDArray[np.bool_]
    edges: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class Hiding:
    """Makes rows of cells, and masks of what is hidden in them.

    Attributes
    ----------
    columns
        (n_columns,) token id of each column that takes part, -1 for others.
    wanted
        (n_wanted,) ascending token ids of the genes that are asked for.
    hide
        All of them in one row a cell, each in a row of its own, or none.
    settings
        The tokenizer's, in force.
    n_tokens
        Size of the vocabulary.
    scaled
        Whether the edges between bins are wanted.
    labels
        (n_cells,) int32 batch of each cell, negative for none; None where the model has no batch labels.
    known
        What is known of the rows that were made and not yet answered, by their first row.
    """

    columns: NDArray[np.int64]
    wanted: NDArray[np.int64]
    hide: Hide
    settings: TokenizerSettings
    n_tokens: int
    scaled: bool
    labels: NDArray[np.int32] | None = None
    known: dict[int, Rows] = field(default_factory=dict)

    @property
    def rows_each(self) -> int:
        """Rows that are made of one cell."""
        return len(self.wanted) if self.hide == "each" else 1

    def genes_of(self, first_row: int, n_rows: int) -> NDArray[np.int64]:
        """(n_rows, n) token ids that are asked of each row."""
        if self.hide != "each":
            return np.broadcast_to(self.wanted, (n_rows, len(self.wanted)))
        return self.wanted[(first_row + np.arange(n_rows)) % len(self.wanted)][:, None]

    def rows(self, blocks: Iterable[CellBlock]) -> Iterator[CellBlock]:
        """The rows of blocks of cells, at most `RANGE_ROWS` a block."""
        for block in blocks:
            if self.hide == "none":
                yield block
                continue
            tokens = self._tokens_of(block)
            n_rows = block.n_cells * self.rows_each
            for start in range(0, n_rows, RANGE_ROWS):
                yield self._without(block, tokens, start, min(start + RANGE_ROWS, n_rows))

    def _tokens_of(self, block: CellBlock) -> NDArray[np.int64]:
        """(n_values,) token of each stored value that may be hidden, -1 for others: bad values stay to be found."""
        inside = (block.indices >= 0) & (block.indices < len(self.columns))
        tokens = np.where(inside, self.columns[np.where(inside, block.indices, 0)], -1)
        return np.where((block.data > 0) & np.isfinite(block.data) & np.isin(tokens, self.wanted), tokens, -1)

    def _without(self, block: CellBlock, tokens: NDArray[np.int64], start: int, stop: int) -> CellBlock:
        """Rows start to stop of a block of cells, less what is hidden in them."""
        first = block.first_row * self.rows_each + start
        kept, hidden = [], np.zeros(stop - start, bool)
        for place, row in enumerate(range(start, stop)):
            cell = row // self.rows_each
            own = slice(block.indptr[cell], block.indptr[cell + 1])
            goes = tokens[own] >= 0 if self.hide == "together" else tokens[own] == self.wanted[row % len(self.wanted)]
            kept.append(np.flatnonzero(~goes) + own.start)
            hidden[place] = goes.any()
        self.known[first] = Rows(hidden)
        indptr = np.concatenate([[0], np.cumsum([len(values) for values in kept])]).astype(np.int64)
        values = np.concatenate(kept) if kept else np.empty(0, np.int64)
        return CellBlock(indptr, block.indices[values], block.data[values], first)

    def masked(self, block: CellBlock, tokens: TokenBlock) -> TokenBlock:
        """The tokens of rows, with a mask at each gene that is asked for: where it was, or as a token of its own."""
        faults = tokens.faults.copy()
        known = self.known.get(block.first_row, Rows(np.zeros(block.n_cells, bool)))
        nothing = (faults == CellFault.NO_COUNTS) | (faults == CellFault.NO_KNOWN_GENE)
        faults[nothing & known.hidden] = CellFault.ALL_HIDDEN
        if self.scaled:
            self.known[block.first_row] = replace(known, edges=self._edges(block, faults))
        tokens = replace(tokens, faults=faults)
        told = tokens if self.hide == "none" else self._with_masks(block, tokens)
        labels = self.labels_of(block.first_row, block.n_cells)
        return told if labels is None else with_labels(told, labels)

    def labels_of(self, first_row: int, n_rows: int) -> NDArray[np.int32] | None:
        """(n_rows,) batch of each row."""
        return None if self.labels is None else self.labels[(first_row + np.arange(n_rows)) // self.rows_each]

    def _with_masks(self, block: CellBlock, tokens: TokenBlock) -> TokenBlock:
        mask = self.settings.mask_code if self.settings.value_style == "binned" else self.settings.mask_value
        genes = self.genes_of(block.first_row, block.n_cells)  # (n_rows, n)
        short = self._short(block) if self._too_long(tokens, genes) else tokens
        ids, values = [], []
        for row in range(tokens.n_cells):
            whole = slice(tokens.offsets[row], tokens.offsets[row + 1])
            absent = np.setdiff1d(genes[row], tokens.ids[whole], assume_unique=False)
            if whole.stop - whole.start + len(absent) > self.settings.max_length:
                whole = slice(short.offsets[row], short.offsets[row + 1])
                merged = _merged(short.ids[whole], short.values[whole], genes[row], mask)
            else:
                merged = _merged(tokens.ids[whole], tokens.values[whole], genes[row], mask)
            ids.append(merged[0])
            values.append(merged[1])
        offsets = np.concatenate([[0], np.cumsum([len(own) for own in ids])]).astype(np.int64)
        return replace(tokens, ids=np.concatenate(ids), values=np.concatenate(values), offsets=offsets)

    def _too_long(self, tokens: TokenBlock, genes: NDArray[np.int64]) -> bool:
        longest = int(np.diff(tokens.offsets).max(initial=0))
        return longest + len(genes[0]) > self.settings.max_length

    def _short(self, block: CellBlock) -> TokenBlock:
        """The same rows with room for all masks."""
        room = self.settings.max_length - self.genes_of(0, 1).shape[1]
        return tokenize(block, self.columns, replace(self.settings, max_length=room), self.n_tokens)

    def _edges(self, block: CellBlock, faults: NDArray[np.uint8]) -> NDArray[np.float64]:
        edges = np.full((block.n_cells, self.settings.n_bins - 1), np.nan)
        for row in np.flatnonzero(faults == CellFault.NONE).tolist():
            own = slice(block.indptr[row], block.indptr[row + 1])
            edges[row] = edges_of(self._binned(block.indices[own], block.data[own]), self.settings.n_bins)
        return edges

    def _binned(self, indices: NDArray[np.int32], data: NDArray[np.float32]) -> NDArray[np.float32]:
        """The values of a good row that were binned: those of known columns, a repeated column summed."""
        names, place = np.unique(indices, return_inverse=True)
        if len(names) < len(indices):
            indices, data = names, np.bincount(place, data).astype(np.float32)
        return data[(self.columns[indices] >= 0) & (data > 0)]


def _merged(ids: Any, values: Any, genes: NDArray[np.int64], mask: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Tokens of a row with masks at the genes, in canonical order; a bad row has none and gets none."""
    if not len(ids):
        return ids, values
    values = np.where(np.isin(ids, genes), np.array(mask, values.dtype), values)
    absent = np.setdiff1d(genes, ids).astype(ids.dtype)
    order = np.argsort(np.concatenate([ids[1:], absent]), kind="stable")
    merged = np.concatenate([ids[1:], absent])[order]
    told = np.concatenate([values[1:], np.full(len(absent), mask, values.dtype)])[order]
    return np.concatenate([ids[:1], merged]), np.concatenate([values[:1], told])
