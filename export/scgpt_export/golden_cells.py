"""Seeded cells that prove a bundle: raw values, their tokens, and the reference's vectors.

In: the genes of a vocabulary and the tokenizer settings. Out: cells, and a `Golden` of them. Lengths run
from one gene to more than fit, and some cells hold log-normalised values rather than counts.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from scgpt_runtime.cells import CellBlock, TokenBlock
from scgpt_runtime.golden import Golden
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.tokenizer import tokenize

__all__ = ["as_golden", "cell_inputs", "golden_block", "golden_tokens", "short_cells"]

_SHORT = (1, 2, 4, 9, 19, 39, 79, 119, 179, 249, 349, 499, 699, 899)
_LONG = (0, 0, 1, 100, 400, 900)  # genes beyond a full cell: exactly full twice, then down-sampled


def golden_block(genes: NDArray[np.int64], settings: TokenizerSettings, seed: int) -> CellBlock:
    """Random cells over known genes, counts in most and log1p values in every fourth.

    Parameters
    ----------
    genes
        (n_genes,) token ids that may be expressed: all but the special tokens.
    settings
        Gives the maximum length.
    seed
        Same seed, same cells.

    Returns
    -------
    20 cells; their column numbers are token ids.
    """
    random = np.random.default_rng(seed)
    full = settings.max_length - 1
    wanted = [min(n, full) for n in _SHORT] + [full + extra for extra in _LONG]
    sizes = [min(n, len(genes)) for n in wanted]
    indices, data = [], []
    for number, size in enumerate(sizes):
        indices.append(random.permutation(genes)[:size])
        counts = 1 + random.negative_binomial(1, 0.2, size)
        logged = number % 4 == 3
        data.append(np.log1p(counts * random.uniform(0.5, 2.0, size)) if logged else counts)
    indptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return CellBlock(indptr, np.concatenate(indices).astype(np.int32), np.concatenate(data).astype(np.float32), 0)


def golden_tokens(
    block: CellBlock,
    genes: NDArray[np.int64],
    settings: TokenizerSettings,
    n_tokens: int,
    modalities: NDArray[np.uint8] | None = None,
) -> TokenBlock:
    """Tokens of golden cells, whose column numbers are token ids.

    Parameters
    ----------
    block
        The cells.
    genes
        (n_genes,) token ids of the genes that take part.
    settings
        How they become tokens.
    n_tokens
        Size of the vocabulary.
    modalities
        (n_tokens,) number of each token's modality, of a model that has several.
    """
    columns = np.full(n_tokens, -1, np.int64)
    columns[genes] = genes
    return tokenize(block, columns, settings, n_tokens, modalities=modalities)


def short_cells(tokens: TokenBlock, longest: int = 256) -> TokenBlock:
    """The golden cells before the first that is longer; they come in order of length."""
    long = np.flatnonzero(np.diff(tokens.offsets) > longest)
    n_cells = int(long[0]) if len(long) else tokens.n_cells
    end = int(tokens.offsets[n_cells])
    ids, values = tokens.ids[:end], tokens.values[:end]
    return TokenBlock(ids, values, tokens.offsets[: n_cells + 1], tokens.faults[:n_cells], tokens.first_row)


def as_golden(block: CellBlock, tokens: TokenBlock, cells: list[NDArray[np.float32]]) -> Golden:
    """Golden cells with the reference's vectors, L2-normalised.

    Parameters
    ----------
    block, tokens
        The raw cells and what they become.
    cells
        One (dim,) un-normalised vector a cell.
    """
    vectors = np.stack(cells)
    wide = tokens.ids.dtype == np.uint32
    return Golden(
        indptr=block.indptr,
        token_ids=block.indices.astype(np.uint32) if wide else block.indices.astype(np.uint16),
        data=block.data,
        ids=tokens.ids,
        values=tokens.values,
        offsets=tokens.offsets,
        vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
    )


def cell_inputs(tokens: TokenBlock, cell: int, settings: TokenizerSettings) -> tuple[torch.Tensor, torch.Tensor]:
    """One cell as the reference takes it: ids (1, tokens) int64, values (1, tokens) float32."""
    inside = slice(int(tokens.offsets[cell]), int(tokens.offsets[cell + 1]))
    ids = torch.from_numpy(tokens.ids[inside].astype(np.int64))
    values = tokens.values[inside]
    if settings.value_style == "binned":
        values = np.array(settings.levels, np.float32)[values]
    return ids[None], torch.from_numpy(values.astype(np.float32))[None]
