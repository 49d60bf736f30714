"""Cells as padded tokens, by the product's own tokenizer, and with a share of their values hidden.

In: counts, and the token of each column. Out: arrays, then tensors. A model is so trained on what it will be asked.
Every draw depends on the generator that is given alone. It knows nothing of models and losses.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from scgpt_runtime.cells import CellBlock
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.tokenizer import tokenize
from scgpt_runtime.vocab import Vocabulary

SPECIAL = ("<pad>", "<cls>", "<eoc>")


@dataclass(frozen=True, slots=True)
class Padded:
    """Cells of any length, padded on the right to one.

    Attributes
    ----------
    ids
        (n_cells, length) token ids.
    values
        (n_cells, length) value codes, or values where the model does not bin.
    lengths
        (n_cells,) true lengths, ``<cls>`` counted.
    rows
        (n_cells,) row of each cell among those that were given: bad ones are left out.
    """

    ids: NDArray[np.int64]
    values: NDArray[np.int64] | NDArray[np.float32]
    lengths: NDArray[np.int64]
    rows: NDArray[np.int64]


def settings(tokens: Vocabulary, max_length: int, seed: int = 0, **others: Any) -> TokenizerSettings:
    """The product's tokenizer settings for a vocabulary; a fine-tuned model has ``cls_value=0.0`` among the others."""
    return TokenizerSettings(
        cls_id=tokens.index["<cls>"], pad_id=tokens.index["<pad>"], max_length=max_length, seed=seed, **others
    )


def padded(
    counts: sp.csr_matrix,
    columns: NDArray[np.int64],
    rules: TokenizerSettings,
    n_tokens: int,
    fewest: int = 0,
    modality: NDArray[np.int64] | None = None,
) -> Padded:
    """Tokens of cells, padded.

    Parameters
    ----------
    counts
        (n_cells, n_columns) CSR.
    columns
        (n_columns,) token id of each column, -1 where it has none.
    rules
        The tokenizer's; with ``include_zeros`` every gene with a token is one in every cell.
    n_tokens
        Size of the vocabulary.
    fewest
        Cells with fewer genes than this are left out, as are bad cells.
    modality
        (n_tokens,) modality of each token, each of which is binned by itself; None where the model has none.
    """
    block = CellBlock(counts.indptr.astype(np.int64), counts.indices.astype(np.int32), counts.data, 0)
    of_tokens = None if modality is None else modality.astype(np.uint8)
    tokens = tokenize(block, columns, rules, n_tokens, modalities=of_tokens)
    lengths = np.diff(tokens.offsets)
    good = np.flatnonzero(lengths > fewest)
    binned = rules.value_style == "binned"
    values = tokens.values.astype(np.int64 if binned else np.float32)
    shape = (len(good), int(lengths[good].max(initial=1)))
    ids = np.full(shape, rules.pad_id, np.int64)
    seen = np.full(shape, rules.pad_code if binned else rules.pad_value, values.dtype)
    for row, cell in enumerate(good.tolist()):
        part = slice(tokens.offsets[cell], tokens.offsets[cell + 1])
        ids[row, : lengths[cell]] = tokens.ids[part]
        seen[row, : lengths[cell]] = values[part]
    return Padded(ids, seen, lengths[good], good)


def join(parts: Sequence[Padded], pad_id: int, pad_code: int) -> Padded:
    """Several batches as one; `Padded.rows` still counts within the part that a cell is of."""
    longest = max(part.ids.shape[1] for part in parts)

    def wide(array: NDArray[Any], fill: int) -> NDArray[Any]:
        return np.pad(array, ((0, 0), (0, longest - array.shape[1])), constant_values=fill)

    return replace(
        parts[0],
        ids=np.concatenate([wide(part.ids, pad_id) for part in parts]),
        values=np.concatenate([wide(part.values, pad_code) for part in parts]),
        lengths=np.concatenate([part.lengths for part in parts]),
        rows=np.concatenate([part.rows for part in parts]),
    )


def thin(counts: sp.csr_matrix, random: np.random.Generator) -> sp.csr_matrix:
    """The cells as shallower sequencing would have seen them."""
    share = np.repeat(random.uniform(0.3, 1.0, counts.shape[0]), np.diff(counts.indptr))
    thinned = counts.copy()
    thinned.data = random.binomial(counts.data.astype(np.int64), share).astype(np.float32)
    return thinned


@dataclass(frozen=True, slots=True)
class Masked:
    """A batch as tensors: what the model sees, and what it is asked for.

    Attributes
    ----------
    ids, codes, target
        (B, L) int64: tokens, their value codes as the model sees them, and the true ones.
    hidden, padding
        (B, L) bool: where the value is masked, and where there is no token.
    labels
        (B,) int64 batch label of each cell; None where the model has none.
    mods
        (B, L) int64 modality of each token; None where the model has none.
    """

    ids: Tensor
    codes: Tensor
    target: Tensor
    hidden: Tensor
    padding: Tensor
    labels: Tensor | None = None
    mods: Tensor | None = None


def masked(
    batch: Padded,
    ratios: Sequence[float],
    rules: TokenizerSettings,
    random: np.random.Generator,
    labels: NDArray[np.int64] | None = None,
    modality: NDArray[np.int64] | None = None,
) -> Masked:
    """Mask a share of each cell's values, never that of ``<cls>``.

    Parameters
    ----------
    batch
        Tokens with value codes.
    ratios
        Shares to draw from, once for each cell.
    labels
        (n_cells,) batch label of each cell of the batch.
    modality
        (n_tokens,) modality of each token of the vocabulary.
    """
    ratio = random.choice(ratios, size=(len(batch.ids), 1))
    position = np.arange(batch.ids.shape[1])
    padding = position >= batch.lengths[:, None]
    hidden = (random.random(batch.ids.shape) < ratio) & ~padding & (position > 0)
    return Masked(
        ids=torch.from_numpy(batch.ids),
        codes=torch.from_numpy(np.where(hidden, rules.mask_code, batch.values)),
        target=torch.from_numpy(batch.values),
        hidden=torch.from_numpy(hidden),
        padding=torch.from_numpy(padding),
        labels=None if labels is None else torch.from_numpy(labels),
        mods=None if modality is None else torch.from_numpy(modality[batch.ids]),
    )
