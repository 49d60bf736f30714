"""How much genes attend to each other in cells: ranks of attention scores, summed by condition.

In: an engine that is open for the graph ``attention``, open cells, genes, conditions. Out: `AttentionScores`. A sum of
whole numbers a condition is kept, and the ranks of as many cells as are answered at a time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.gene_vectors.groups import Groups
from scgpt_infer.integration.answering import with_labels
from scgpt_infer.interrupts import honour
from scgpt_infer.networks.ranks import RankFold
from scgpt_infer.options import EmbedOptions
from scgpt_infer.readers import CellSource
from scgpt_infer.sizes import size
from scgpt_infer.spans import grid
from scgpt_infer.summary import BadCell
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import CellBlock, CellFault, Result, TokenBlock
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.errors import CellsError, OptionError
from scgpt_runtime.machine import free_memory
from scgpt_runtime.tokenizer import tokenize
from scgpt_runtime.vocab import taking_part

__all__ = ["AttentionScores", "attention_scores", "open_attention"]

_TASK = "attention"
_BLOCKS = 3
"""Blocks of ranks at a time: two at work, and the one that is added."""


@dataclass(slots=True)
class AttentionScores:
    """Sums of ranks of attention scores. Rows are the genes that attend, columns those that are attended to.

    Attributes
    ----------
    ids
        (n_genes,) token ids, ascending; ``<cls>`` comes before them in `sums`.
    conditions
        Names of the groups of cells.
    sums
        (n_conditions, 1 + n_genes, 1 + n_genes) int64 ranks, summed over cells and heads.
    n_heads
        Attention heads of the model.
    divisors
        (n_conditions,) int64 cells that the sums are divided by.
    bad
        Cells of a condition that have no scores, in row order.
    """

    ids: NDArray[np.int64]
    conditions: tuple[str, ...]
    sums: NDArray[np.int64]
    n_heads: int
    divisors: NDArray[np.int64]
    bad: list[BadCell]

    def mean(self, condition: str) -> NDArray[np.float64]:
        """(n_genes, n_genes) mean score of a condition, from 0 to below 1; ``<cls>`` has its rank and is cut off."""
        place = self.conditions.index(condition)
        whole = self.divisors[place] * self.n_heads * self.sums.shape[1]
        means: NDArray[np.float64] = self.sums[place, 1:, 1:] / whole
        return means


def open_attention(
    bundle: Bundle,
    n_genes: int,
    options: EmbedOptions,
    cache_dir: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    labelled: bool = False,
) -> Engine:
    """Open the graph of attention scores for cells of so many genes; errors as for `Engine.open`.

    It is given one cell at a time, whatever ``batch_tokens`` says, so that no other cell can have a part in a score.
    """
    length = n_genes + 1
    asked = EngineOptions(**{field.name: getattr(options, field.name) for field in fields(EngineOptions)})
    asked = replace(asked, batch_tokens=length, max_length=length)
    return Engine.open(bundle, asked, _TASK, cache_dir, say, RankFold(length), labelled)


def attention_scores(
    engine: Engine,
    source: CellSource,
    columns: NDArray[np.int64],
    ids: NDArray[np.int64],
    conditions: Groups,
    *,
    labels: NDArray[np.int32] | None = None,
    compat: bool = False,
    tick: Callable[[int], None] = lambda cells: None,
) -> AttentionScores:
    """Sum the ranks of attention scores by condition.

    Every cell is ``<cls>`` with value 0 and all the genes, those without counts too. Values are binned among all genes
    of the cell that the model takes, not among the chosen ones.

    Parameters
    ----------
    engine
        From `open_attention`.
    source, columns
        Open cells, and the token id of each of their columns.
    ids
        (n_genes,) token ids of the chosen genes, ascending.
    conditions
        Of the cells that are read; those of none are passed over.
    labels
        (n_cells,) batch of each cell, negative for none, for a model that normalises by batch.
    compat
        As in the original: the first cell of each condition is counted, but its scores are lost.
    tick
        Told of each number of cells that is done with.

    Raises
    ------
    CellsError
        No cell of a condition has scores, or with ``compat`` one alone, which is lost.
    OptionError
        There is not enough memory for the sums.
    """
    length, rows = len(ids) + 1, engine.choice.instances
    _check_memory(len(conditions.names), length, rows)
    sums = np.zeros((len(conditions.names), length, length), np.int64)
    cells, bad = np.zeros(len(conditions.names), np.int64), list[BadCell]()
    blocks = _few(source.blocks(grid(len(conditions.codes))), rows)
    results = engine.run(blocks, columns, tick, _Chosen(engine, columns, ids, conditions, labels))
    try:
        for result in results:
            honour()
            codes = conditions.codes[result.first_row : result.first_row + result.n_cells]
            for row in np.flatnonzero(codes >= 0).tolist():
                if result.faults[row]:
                    bad.append(_bad(source, result, row))
                    continue
                if cells[codes[row]] or not compat:
                    sums[codes[row]] += result.outputs["ranks"][row].astype(np.int32)
                cells[codes[row]] += 1
    finally:
        close = getattr(results, "close", None)  # an error's traceback would keep the engine's threads alive
        if close is not None:
            close()
    _check_cells(cells - compat, conditions, bad)
    return AttentionScores(ids, conditions.names, sums, _heads(engine.bundle), cells, bad)


def _few(blocks: Iterator[CellBlock], rows: int) -> Iterator[CellBlock]:
    """The same cells, so many a block: files are read faster in large pieces."""
    for block in blocks:
        for start in range(0, block.n_cells, rows):
            borders = block.indptr[start : start + rows + 1]
            stored = slice(borders[0], borders[-1])
            yield CellBlock(borders - borders[0], block.indices[stored], block.data[stored], block.first_row + start)


class _Chosen:
    """Makes of each cell ``<cls>`` and the chosen genes, in order of token id; of cells without a condition nothing."""

    def __init__(
        self,
        engine: Engine,
        columns: NDArray[np.int64],
        ids: NDArray[np.int64],
        conditions: Groups,
        labels: NDArray[np.int32] | None,
    ) -> None:
        n_tokens = len(engine.vocabulary)
        among = taking_part(engine.vocabulary, engine.bundle.manifest.binning_genes)
        modalities = engine.bundle.modalities()
        self._columns = np.where((columns >= 0) & among[columns], columns, -1)
        self._modalities = None if modalities is None else modalities.of_tokens
        # What is not expressed is put in here, and nothing is sampled.
        self._settings = replace(engine.settings, include_zeros=False, max_length=len(columns) + 1)
        self._codes, self._labels, self._n_tokens = conditions.codes, labels, n_tokens
        self._ids = np.concatenate([[engine.settings.cls_id], ids])
        self._place = np.full(n_tokens, -1, np.int64)
        self._place[ids] = np.arange(1, len(ids) + 1)

    def __call__(self, block: CellBlock, tokens: TokenBlock) -> TokenBlock:
        """Tokens of a block; those that the engine made are cut to a length, and are not looked at."""
        whole = tokenize(block, self._columns, self._settings, self._n_tokens, modalities=self._modalities)
        wanted = self._codes[block.first_row : block.first_row + block.n_cells] >= 0
        there = np.flatnonzero(wanted & (whole.faults == CellFault.NONE))
        values = np.zeros((block.n_cells, len(self._ids)), whole.values.dtype)
        places = self._place[whole.ids]
        seen = places >= 0
        cell_of = np.repeat(np.arange(block.n_cells), np.diff(whole.offsets))
        np.maximum.at(values, (cell_of[seen], places[seen]), whole.values[seen])  # a gene may stand in two columns
        lengths = np.zeros(block.n_cells, np.int64)
        lengths[there] = len(self._ids)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        ids = np.tile(self._ids, len(there))
        narrow = ids.astype(np.uint16) if whole.ids.dtype == np.uint16 else ids.astype(np.uint32)
        made = TokenBlock(narrow, values[there].ravel(), offsets, whole.faults, block.first_row)
        if self._labels is None:
            return made
        return with_labels(made, self._labels[block.first_row : block.first_row + block.n_cells])


def _bad(source: CellSource, result: Result, row: int) -> BadCell:
    place = result.first_row + row
    (name,) = source.cell_names(place, place + 1)
    return BadCell(place, name, CellFault(result.faults[row]).reason)


def _check_memory(n_conditions: int, length: int, rows: int) -> None:
    needed = length**2 * (8 * n_conditions + 4 * _BLOCKS * rows)
    free = free_memory()
    if free is not None and needed > free:
        raise OptionError(
            f"Scores of {length - 1:,} genes in {n_conditions} conditions take {size(needed)} of memory, and "
            f"{size(free)} are free. Ask for fewer genes (--variable, --only), or fewer --instances."
        )


def _check_cells(cells: NDArray[np.int64], conditions: Groups, bad: list[BadCell]) -> None:
    empty = [name for name, count in zip(conditions.names, cells.tolist(), strict=True) if count <= 0]
    if empty:
        reasons = ", ".join(sorted({cell.reason for cell in bad})) or "there are too few"
        where = f" of {', '.join(empty)}" if any(empty) else ""
        raise CellsError(
            f"None of the cells{where} can be used ({reasons}). Check that the counts are where they were taken from "
            "(--layer), and that the gene names are the right ones (--gene-col)."
        )


def _heads(bundle: Bundle) -> int:
    (scores,) = next(graph for graph in bundle.manifest.graphs if graph.task == _TASK).outputs
    return int(scores.shape[1])
