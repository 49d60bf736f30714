"""Cells of pbmc3k's lengths, and of one length, from a seed: a machine without files has the real distribution.

In: a number of cells and a seed. Out: a `CellBlock` with its columns, or tokens. The genes are random, their number
is not.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.cells import CellBlock, TokenBlock
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.tokenizer import tokenize

__all__ = ["KNOWN_GENES", "blocks", "columns_of", "genes_a_cell", "known_genes_of", "one_length", "real_lengths"]

KNOWN_GENES = (
    *(201, 432, 518, 577, 615, 655, 680, 706, 729, 747, 766),
    *(785, 804, 830, 860, 891, 934, 1002, 1101, 1269, 2243),
)
"""Quantiles, from 0 to 1 in steps of 0.05, of the expressed genes of a pbmc3k cell that the whole-human vocabulary
knows. Source: the 2,638 annotated cells of 10x Genomics' PBMC 3k (CC BY 4.0), 13,656 genes, 12,255 of them known;
mean 793. With ``<cls>`` and cut to 1,200 tokens the mean length is 780, and 6.6 % of the cells are full."""

COLUMNS = 12_255
"""Columns of pbmc3k's matrix that the vocabulary knows."""

BLOCK = 1024
"""Cells of a block, as the engine's grid has them."""


def genes_a_cell(n_cells: int, seed: int) -> NDArray[np.int64]:
    """(n_cells,) numbers of expressed genes, drawn from `KNOWN_GENES`."""
    at = np.random.default_rng(seed).random(n_cells)
    drawn: NDArray[np.float64] = np.interp(at, np.linspace(0, 1, len(KNOWN_GENES)), KNOWN_GENES)
    return np.rint(drawn).astype(np.int64)


def known_genes_of(n_tokens: int, settings: TokenizerSettings) -> NDArray[np.int64]:
    """Token ids that may stand for genes."""
    return np.setdiff1d(np.arange(n_tokens), [settings.cls_id, settings.pad_id]).astype(np.int64)


def columns_of(genes: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """(columns,) token id of each column: a draw of as many genes as pbmc3k has, or all where there are fewer."""
    return np.random.default_rng(seed).choice(genes, min(COLUMNS, len(genes)), replace=False)


def blocks(n_cells: int, n_columns: int, seed: int) -> list[CellBlock]:
    """Cells with pbmc3k's numbers of genes, random counts, in blocks of the engine's size."""
    random = np.random.default_rng(seed + 1)
    sizes = np.minimum(genes_a_cell(n_cells, seed), n_columns)
    made = []
    for first in range(0, n_cells, BLOCK):
        here = sizes[first : first + BLOCK]
        indptr = np.concatenate([[0], np.cumsum(here)]).astype(np.int64)
        rows = [np.sort(random.choice(n_columns, size, replace=False, shuffle=False)) for size in here]
        counts = 1 + random.negative_binomial(1, 0.4, int(indptr[-1]))
        made.append(CellBlock(indptr, np.concatenate(rows).astype(np.int32), counts.astype(np.float32), first))
    return made


def real_lengths(n_cells: int, n_tokens: int, settings: TokenizerSettings, seed: int) -> TokenBlock:
    """Tokens of cells with pbmc3k's lengths, in random order."""
    columns = columns_of(known_genes_of(n_tokens, settings), seed)
    made = [tokenize(block, columns, settings, n_tokens) for block in blocks(n_cells, len(columns), seed)]
    offsets = np.cumsum([0, *np.concatenate([np.diff(block.offsets) for block in made])])
    ids, values = (np.concatenate([getattr(block, name) for block in made]) for name in ("ids", "values"))
    return replace(made[0], ids=ids, values=values, offsets=offsets, faults=np.zeros(n_cells, np.uint8))


def one_length(n_cells: int, length: int, n_tokens: int, settings: TokenizerSettings, seed: int) -> TokenBlock:
    """Tokens of cells that all have one length, genes and bins drawn."""
    random = np.random.default_rng(seed)
    genes = known_genes_of(n_tokens, settings)
    drawn = np.sort(random.choice(genes, (n_cells, length)), axis=1)
    ids = drawn.astype(np.uint16) if n_tokens <= 2**16 else drawn.astype(np.uint32)
    values = random.integers(1, settings.n_bins, ids.shape).astype(np.uint8)
    ids[:, 0], values[:, 0] = settings.cls_id, settings.cls_code
    offsets = np.arange(n_cells + 1, dtype=np.int64) * length
    return TokenBlock(ids.ravel(), values.ravel(), offsets, np.zeros(n_cells, np.uint8), 0)
