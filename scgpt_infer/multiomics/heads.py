"""Values of features that a model of several modalities predicts: from cell vectors, or from masked tokens.

In: open heads, token ids, and the batch of each cell where the heads ask for it. Out: values, and how likely they are
above zero where the model tells that. They know no file and no format.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.answering import GraphRunner
from scgpt_runtime.cells import AnyBatch, Batch, TokenBlock
from scgpt_runtime.errors import InternalError
from scgpt_runtime.manifest import TokenizerSettings

__all__ = ["FromCells", "FromTokens", "among_tokens"]

PAIRS = 1 << 14
"""Cells times features that the head of cell vectors is asked at a time: some 200 MB at full size."""

Told = dict[str, NDArray[np.float32]]
"""``predicted`` and, where the model tells it, ``nonzero``: (n_cells, n_asked)."""

_NAMES = {"value": "predicted", "nonzero": "nonzero"}


@dataclass(frozen=True, slots=True)
class FromCells:
    """Predicts from cell vectors.

    Attributes
    ----------
    head
        The open ``mvc`` graph.
    ids, mods
        (n_asked,) token ids, uint16 or uint32 as the graph takes them, and the modality of each.
    """

    head: GraphRunner
    ids: NDArray[Any]
    mods: NDArray[np.uint8]

    def __call__(self, cells: NDArray[np.float32], labels: NDArray[np.int32] | None) -> Told:
        """Values for (n_cells, dim) vectors as the model gives them; NaN where a vector is."""
        step = max(1, PAIRS // len(self.ids))
        parts = [self._answer(cells, labels, slice(start, start + step)) for start in range(0, len(cells), step)]
        told = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for numbers in told.values():
            numbers[~np.isfinite(cells).all(axis=1)] = np.nan
        return told

    def _answer(self, cells: NDArray[np.float32], labels: NDArray[np.int32] | None, rows: slice) -> Told:
        taken = np.nan_to_num(np.ascontiguousarray(cells[rows], np.float32))
        shape = (len(taken), len(self.ids))
        arrays: dict[str, NDArray[Any]] = {
            "cell": taken,
            "ids": np.ascontiguousarray(np.broadcast_to(self.ids, shape)),
            "mods": np.ascontiguousarray(np.broadcast_to(self.mods, shape)),
            **({} if labels is None else {"batch": labels[rows]}),
        }
        return _told(self.head.feed({spec.name: arrays[spec.name] for spec in self.head.inputs}))


@dataclass(frozen=True, slots=True)
class FromTokens:
    """A fold: predicts at the last tokens of each cell, which `among_tokens` has put there.

    Attributes
    ----------
    head
        The open ``expression`` graph.
    mods
        (n_asked,) modality of each token that is asked about.
    nonzero
        Whether the head tells how likely values are above zero.
    """

    head: GraphRunner
    mods: NDArray[np.uint8]
    nonzero: bool

    @property
    def pooling(self) -> str:
        """These are no vectors."""
        return "expression"

    def outputs(self, dim: int) -> dict[str, tuple[int, ...]]:
        """A number for each feature."""
        names = ["predicted", *(["nonzero"] if self.nonzero else [])]
        return dict.fromkeys(names, (len(self.mods),))

    def __call__(self, batch: AnyBatch, answers: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Values of a batch."""
        if not isinstance(batch, Batch):
            raise InternalError("Values at tokens are told of padded cells.")
        n_asked = len(self.mods)
        places = batch.lengths[:, None] - n_asked + np.arange(n_asked)  # (n_cells, n_asked)
        hidden = np.take_along_axis(answers["hidden"], places[:, :, None].astype(np.int64), axis=1)
        arrays: dict[str, NDArray[Any]] = {
            "hidden": np.ascontiguousarray(hidden, np.float32),
            "mods": np.ascontiguousarray(np.broadcast_to(self.mods, places.shape)),
            **({} if batch.labels is None else {"batch": batch.labels}),
        }
        return {**_told(self.head.feed({spec.name: arrays[spec.name] for spec in self.head.inputs}))}


def _told(answers: Mapping[str, NDArray[Any]]) -> Told:
    return {_NAMES[name]: np.asarray(numbers, np.float32) for name, numbers in answers.items()}


def among_tokens(tokens: TokenBlock, ids: NDArray[np.int64], settings: TokenizerSettings) -> TokenBlock:
    """The same cells with further tokens behind theirs, whose values are masked; none for a cell without tokens."""
    lengths = np.diff(tokens.offsets)
    longer = np.where(lengths > 0, lengths + len(ids), 0)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(longer)])
    own = np.repeat(offsets[:-1] - tokens.offsets[:-1], lengths) + np.arange(len(tokens.ids))
    masked = np.ones(int(offsets[-1]), bool)
    masked[own] = False
    mask = settings.mask_code if tokens.values.dtype == np.uint8 else settings.mask_value
    all_ids, values = np.empty(len(masked), tokens.ids.dtype), np.full(len(masked), mask, tokens.values.dtype)
    all_ids[own], values[own] = tokens.ids, tokens.values
    all_ids[masked] = np.tile(ids, int(np.count_nonzero(lengths)))
    return replace(tokens, ids=all_ids, values=values, offsets=offsets)
