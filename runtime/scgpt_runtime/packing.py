"""Cells one behind the other: TokenBlock -> packed batches of few sizes.

In: ragged tokens and a budget. Out: batches whose shapes recur, so that a GPU may replay what it has recorded. It
knows nothing of models.
"""

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.cells import PackedBatch, TokenBlock
from scgpt_runtime.manifest import TokenizerSettings

__all__ = ["packed", "pad_level"]

_UNIT = 128
"""Sizes are multiples of this: whole tiles of the kernels that multiply and attend."""

_SMALLEST = 1024
"""The budget is halved down to this for what is left of a block: more sizes would recur too seldom."""

_FEWEST_ROWS = 8


def packed(tokens: TokenBlock, settings: TokenizerSettings, budget: int, longest: int) -> list[PackedBatch]:
    """Pack a block, the longest cells first and short ones into the room they leave.

    Parameters
    ----------
    tokens
        Cells without tokens are left out.
    settings
        Give the id and the value that dummy tokens carry.
    budget
        Most tokens of a batch. One cell that is longer makes a batch of its own.
    longest
        Most tokens of a cell, as far as it is known: the width of ``places``.

    Returns
    -------
    list of PackedBatch
        Together they hold every cell that has tokens, once. Their number of tokens is the budget (in multiples of
        128), a half, a quarter and so on of it, down to 1,024; their number of rows is a power of two.
    """
    lengths = np.diff(tokens.offsets)
    sizes = _sizes(budget)
    width = max(longest, int(lengths.max(initial=1)))
    room = sizes[-1] if budget >= _UNIT else 0  # a budget below the smallest size: each cell alone
    return [_pack(tokens, settings, cells, sizes, width) for cells in _together(lengths, room)]


def pad_level(settings: TokenizerSettings, dtype: np.dtype[np.uint8] | np.dtype[np.float32]) -> float:
    """What padding carries among the values of a `TokenBlock`: a code, or a value."""
    return settings.pad_code if dtype == np.uint8 else settings.pad_value


def _sizes(budget: int) -> list[int]:
    """Sizes of batches, ascending."""
    sizes = [max(_UNIT, budget // _UNIT * _UNIT)]
    while (half := sizes[-1] // 2 // _UNIT * _UNIT) >= _SMALLEST:
        sizes.append(half)
    return sizes[::-1]


def _together(lengths: NDArray[np.int64], room: int) -> list[NDArray[np.int64]]:
    """Cells of each batch: the longest that is left, then again and again the longest that still fits."""
    order = np.argsort(lengths, kind="stable")
    order = order[len(order) - np.count_nonzero(lengths) :]
    left, sizes = order.tolist(), lengths[order].tolist()  # both ascending by length
    most_rows = max(_FEWEST_ROWS, room // _UNIT)
    made = []
    while left:
        cells, free = [left.pop()], room - sizes.pop()
        while len(cells) < most_rows and (fits := bisect_right(sizes, free)) > 0:
            cells.append(left.pop(fits - 1))
            free -= sizes.pop(fits - 1)
        made.append(np.array(cells, np.int64))
    return made


def _pack(
    tokens: TokenBlock, settings: TokenizerSettings, cells: NDArray[np.int64], sizes: list[int], width: int
) -> PackedBatch:
    places = [slice(tokens.offsets[cell], tokens.offsets[cell + 1]) for cell in cells.tolist()]
    lengths = np.diff(tokens.offsets)[cells]
    total = int(lengths.sum())
    size = next((size for size in sizes if size >= total), -(-total // _UNIT) * _UNIT)
    rest = size - total
    dummies = np.diff(np.minimum(np.arange(-(-rest // width) + 1) * width, rest))
    rows = max(_FEWEST_ROWS, 1 << (len(cells) + len(dummies) - 1).bit_length())
    each = np.zeros(rows, np.int64)
    each[: len(cells) + len(dummies)] = np.concatenate([lengths, dummies])
    offsets = np.concatenate([[0], np.cumsum(each)])  # (rows + 1,)
    ids = np.full(size, settings.pad_id, tokens.ids.dtype)
    values = np.full(size, pad_level(settings, tokens.values.dtype), tokens.values.dtype)
    np.concatenate([tokens.ids[place] for place in places], out=ids[:total])
    np.concatenate([tokens.values[place] for place in places], out=values[:total])
    return PackedBatch(
        ids,
        values,
        offsets.astype(np.int32),
        width,
        np.where(each > 0, offsets[:-1], 0).astype(np.int32),
        cells,
    )
