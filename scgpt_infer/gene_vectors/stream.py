"""The hidden states of cells as a stream: one for each gene that the model sees of a cell, in the order of the rows.

In: an engine that was opened with `open_states`, and open cells. Out: blocks of few cells, or cell by cell. At no time
are more than a few blocks there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.interrupts import honour
from scgpt_infer.options import EmbedOptions
from scgpt_infer.readers import CellSource
from scgpt_infer.spans import grid
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import CellBlock, CellFault, Result, TokenBlock
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.errors import InternalError

__all__ = ["GENE_ROWS", "CellGenes", "cell_genes", "hidden_states", "open_states"]

GENE_ROWS = 64
"""Cells of a block: those of the grid of rows are cut into so many, since the hidden states of one full-length cell of
the public models take 2.5 MB. No batch crosses a block."""


@dataclass(frozen=True, slots=True)
class CellGenes:
    """What the model makes of each gene of one cell.

    Attributes
    ----------
    row
        Row of the cell.
    ids
        (n,) token ids of its genes, ascending; a gene that stands in two columns is there twice.
    vectors
        (n, dim) float32 hidden states of the last layer, not normalised.
    fault
        Why there are none; `CellFault.NONE` where there are.
    """

    row: int
    ids: NDArray[np.uint16] | NDArray[np.uint32]
    vectors: NDArray[np.float32]
    fault: CellFault


def open_states(
    bundle: Bundle, options: EmbedOptions, cache_dir: Path | None, say: Callable[[str], None] = lambda line: None
) -> Engine:
    """Open the graph that answers for all tokens of a cell; errors as for `Engine.open`."""
    asked = EngineOptions(**{field.name: getattr(options, field.name) for field in fields(EngineOptions)})
    return Engine.open(bundle, asked, "tokens", cache_dir, say)


def hidden_states(
    engine: Engine,
    source: CellSource,
    columns: NDArray[np.int64],
    *,
    limit: int | None = None,
    tick: Callable[[int], None] = lambda cells: None,
) -> Iterator[tuple[Result, TokenBlock]]:
    """Hidden states of all tokens, block by block.

    Parameters
    ----------
    engine
        From `open_states`.
    source
        Open cells.
    columns
        (n_genes,) token id of each column of the source, -1 for an unknown one.
    limit
        Stop after so many cells.
    tick
        Told of each number of cells that is answered.

    Yields
    ------
    Result and TokenBlock
        Output ``hidden`` is (n_tokens, dim) float32, a row for each of these tokens, NaN for those of a bad cell; the
        first token of each cell is ``<cls>``.
    """
    total = source.n_cells if limit is None else min(limit, source.n_cells)
    results = engine.run(_few(source.blocks(grid(total))), columns, tick)
    try:
        for result in results:
            honour()
            if result.tokens is None:
                raise InternalError("The engine answers cells, and was not opened for hidden states.")
            yield result, result.tokens
    finally:
        close = getattr(results, "close", None)  # an error's traceback would keep the engine's threads alive
        if close is not None:
            close()


def cell_genes(
    engine: Engine,
    source: CellSource,
    columns: NDArray[np.int64],
    *,
    limit: int | None = None,
    tick: Callable[[int], None] = lambda cells: None,
) -> Iterator[CellGenes]:
    """Hidden states of the genes of each cell, ``<cls>`` left out; see `hidden_states`.

    Vectors are views of a block: whoever keeps those of a few genes should copy them.
    """
    for result, tokens in hidden_states(engine, source, columns, limit=limit, tick=tick):
        hidden = result.outputs["hidden"]
        for cell in range(tokens.n_cells):
            fault, start, stop = CellFault(result.faults[cell]), *tokens.offsets[cell : cell + 2]
            start = stop if fault else start + 1
            yield CellGenes(result.first_row + cell, tokens.ids[start:stop], hidden[start:stop], fault)


def _few(blocks: Iterator[CellBlock]) -> Iterator[CellBlock]:
    """The same cells, few a block: files are read faster in large pieces."""
    for block in blocks:
        for start in range(0, block.n_cells, GENE_ROWS):
            borders = block.indptr[start : start + GENE_ROWS + 1]
            stored = slice(borders[0], borders[-1])
            indices, data = block.indices[stored], block.data[stored]
            yield CellBlock(borders - borders[0], indices, data, block.first_row + start)
