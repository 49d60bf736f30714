"""Tokens -> what PyTorch peers take: padded rectangles or packed rows, in pinned memory.

In: a `TokenBlock`. Out: host tensors. Packed batches are cut as scgpt_runtime cuts its own, so that no peer has worse
batches than we have.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scgpt_runtime.cells import TokenBlock
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.packing import packed as pack

__all__ = ["HostBatch", "padded", "rows_packed"]

MEAN_LENGTH = 256
"""Rows of a packed batch of fixed shape are enough for cells of this mean length; more are made where they are not."""

MIN_ROWS = 32


@dataclass(frozen=True, slots=True)
class HostBatch:
    """A batch in the host's memory.

    Attributes
    ----------
    ids, codes
        (cells, length) or (tokens,): int32 and uint8.
    lengths
        (rows,) int32 of a rectangle; None where no mask is needed, or the batch is packed.
    offsets, firsts
        Of a packed batch: (rows + 1,) and (rows,) int32.
    cells
        Positions of the cells that are real, the first rows.
    longest
        Most tokens of any cell of any batch.
    """

    ids: Tensor
    codes: Tensor
    lengths: Tensor | None
    offsets: Tensor | None
    firsts: Tensor | None
    cells: NDArray[np.int64]
    longest: int


def padded(
    tokens: TokenBlock,
    settings: TokenizerSettings,
    budget: int,
    *,
    by_length: bool,
    buckets: tuple[int, ...] = (),
    pin: bool = True,
) -> list[HostBatch]:
    """Rectangles of at most `budget` tokens.

    Parameters
    ----------
    tokens, settings
        Cells, and what padding carries.
    budget
        Tokens in a batch, padding included; a longer cell is alone.
    by_length
        Longest cells first; else in the order in which they are there, with as many in a batch as if all were longest.
    buckets
        Lengths that batches may have, ascending, each with one number of cells: fixed shapes for a compiler. Rows that
        are no cells have one token. A batch of one length has no mask without them.
    pin
        Whether the memory is pinned.
    """
    lengths = np.diff(tokens.offsets)
    order = np.argsort(-lengths, kind="stable") if by_length else np.arange(len(lengths))
    made, start = [], 0
    while start < len(order):
        longest = int(lengths[order[start]]) if by_length else int(lengths.max())
        width = next((bucket for bucket in buckets if bucket >= longest), longest)
        count = max(1, budget // width)
        cells = order[start : start + count]
        if not buckets and not by_length:
            width = int(lengths[cells].max())
        made.append(_rectangle(tokens, settings, cells, (count if buckets else len(cells), width), bool(buckets), pin))
        start += count
    return made


def _rectangle(
    tokens: TokenBlock,
    settings: TokenizerSettings,
    cells: NDArray[np.int64],
    shape: tuple[int, int],
    masked: bool,
    pin: bool,
) -> HostBatch:
    ids = np.full(shape, settings.pad_id, np.int32)
    codes = np.full(shape, settings.pad_code, np.uint8)
    lengths = np.ones(shape[0], np.int32)
    for row, cell in enumerate(cells):
        here = slice(tokens.offsets[cell], tokens.offsets[cell + 1])
        lengths[row] = here.stop - here.start
        ids[row, : lengths[row]], codes[row, : lengths[row]] = tokens.ids[here], tokens.values[here]
    ragged = masked or bool((lengths != shape[1]).any())
    told = _tensor(lengths, pin) if ragged else None
    return HostBatch(_tensor(ids, pin), _tensor(codes, pin), told, None, None, cells, shape[1])


def rows_packed(
    tokens: TokenBlock, settings: TokenizerSettings, budget: int, *, fixed: bool = False, pin: bool = True
) -> list[HostBatch]:
    """Packed batches, as scgpt_runtime cuts them.

    Parameters
    ----------
    tokens, settings, budget
        As in `padded`.
    fixed
        Whether all batches have one shape, for a compiler: smaller ones are filled up with dummy cells.
    pin
        Whether the memory is pinned.
    """
    made = []
    for batch in pack(tokens, settings, budget, settings.max_length):
        ids, offsets, firsts = batch.ids.astype(np.int32), batch.offsets, batch.firsts
        codes = batch.values.astype(np.uint8)
        if fixed:
            rest = max(0, budget - len(ids))
            ids = np.pad(ids, (0, rest), constant_values=settings.pad_id)
            codes = np.pad(codes, (0, rest), constant_values=settings.pad_code)
            offsets = _filled(offsets, len(ids), settings.max_length, max(MIN_ROWS, budget // MEAN_LENGTH))
            firsts = np.pad(firsts, (0, len(offsets) - 1 - len(firsts)))
        tensors = (_tensor(array, pin) for array in (ids, codes, offsets, firsts))
        ids_of, codes_of, offsets_of, firsts_of = tensors
        made.append(HostBatch(ids_of, codes_of, None, offsets_of, firsts_of, batch.cells, settings.max_length))
    return made


def _filled(offsets: NDArray[np.int32], size: int, longest: int, rows: int) -> NDArray[np.int32]:
    """Offsets of as many rows, the tokens that are left in dummy rows, then empty ones."""
    used = np.flatnonzero(np.diff(offsets))
    kept = offsets[: used[-1] + 2]  # empty rows at the end are made anew
    ends = np.arange(kept[-1], size, longest)[1:]
    more = np.concatenate([ends, [size]]) if size > kept[-1] else ends
    found = np.concatenate([kept, more])
    return np.pad(found, (0, max(0, rows + 1 - len(found))), mode="edge").astype(np.int32)


def _tensor(array: NDArray[np.generic], pin: bool) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory() if pin else tensor
