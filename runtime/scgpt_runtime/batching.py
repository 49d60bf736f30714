"""TokenBlock -> batches, as a plan says: rectangles under a budget of padded tokens, or cells packed without padding.

In: ragged tokens. Out: what a graph answers at a time. What goes together depends on the block and the plan alone,
never on timing, threads or free memory. It knows nothing of models.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.cells import AnyBatch, Batch, TokenBlock
from scgpt_runtime.errors import InternalError
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.packing import packed, pad_level
from scgpt_runtime.providers import ProviderChoice

__all__ = ["BATCH_TOKENS", "LENGTH_STEP", "BatchPlan", "batches", "plan_for", "rectangles", "unpacked"]

BATCH_TOKENS = {"cpu": 512, "openvino": 256, "cuda": 16384, "tensorrt": 16384}
"""Default budget of tokens in a batch, padding included. Small on a CPU on purpose: there a long cell is fastest alone
and at its exact length, and a few short ones together cost less than each alone (docs/lab-notes.md has the figures).
Those of the GPU providers have not been measured: so many tokens give each product enough rows for a large GPU."""

LENGTH_STEP = {"cpu": 1, "openvino": 16, "cuda": 32, "tensorrt": 32}
"""Lengths of padded batches are multiples of this. OpenVINO makes ready for a length when it first sees it and keeps
what it made: at full size 11 ms and 0.8 MB a length and instance, where 8 tokens of padding are 1 % of the work. A GPU
replays a recorded graph where a shape recurs; that step has not been measured."""

Kind = Literal["padded", "exact", "packed"]

_KINDS: dict[str, Kind] = {"cuda-exact": "exact", "cuda-packed": "packed"}


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """How a block of tokens becomes batches.

    Attributes
    ----------
    kind
        ``padded``: like lengths together, padded to one; ``exact``: equal lengths only, so nothing is padded;
        ``packed``: cells one behind the other.
    budget
        Most tokens of a batch, padding included; one cell that is longer still makes a batch of its own.
    step
        Lengths of ``padded`` batches are multiples of this.
    longest
        Most tokens of a cell, as far as it is known: ``packed`` batches have one shape for all cells up to it.
    """

    kind: Kind
    budget: int
    step: int = 1
    longest: int = 0


def plan_for(
    choice: ProviderChoice, settings: TokenizerSettings, batch_tokens: int | None = None, masked: bool = True
) -> BatchPlan:
    """The plan that suits what runs.

    Parameters
    ----------
    choice
        Its dialect tells the kind of batches, its provider what is left open.
    settings
        Tokenizer settings in force.
    batch_tokens
        The budget; None: the provider's default.
    masked
        Whether the graph is told where a cell ends; if not, only cells of one length go together.
    """
    budget = batch_tokens or BATCH_TOKENS[choice.provider]
    kind: Kind = _KINDS.get(choice.dialect, "padded") if masked else "exact"
    return BatchPlan(kind, budget, LENGTH_STEP[choice.provider], longest=settings.max_length)


def batches(tokens: TokenBlock, settings: TokenizerSettings, plan: BatchPlan) -> list[AnyBatch]:
    """Cut a block into batches, longest cells first.

    Parameters
    ----------
    tokens
        Cells without tokens are left out.
    settings
        Give the id and the value that padding carries.
    plan
        How.

    Returns
    -------
    list of AnyBatch
        Together they hold every cell that has tokens, once.
    """
    if plan.kind == "packed":
        return [*packed(tokens, settings, plan.budget, plan.longest)]
    return [*rectangles(tokens, settings, plan)]


def rectangles(tokens: TokenBlock, settings: TokenizerSettings, plan: BatchPlan) -> list[Batch]:
    """As `batches`, for a plan that is not ``packed``."""
    if plan.kind == "packed":
        raise InternalError("Packed batches are no rectangles.")
    lengths = np.diff(tokens.offsets)
    # Longest first: the largest buffers are made once, at the start, and out of memory shows at once.
    order = np.argsort(-lengths, kind="stable")
    order = order[: np.count_nonzero(lengths)]
    step = plan.step if plan.kind == "padded" else 1
    made, start = [], 0
    while start < len(order):
        longest = -(-int(lengths[order[start]]) // step) * step
        stop = min(len(order), start + max(1, plan.budget // longest))
        if plan.kind == "exact":
            stop = start + int(np.count_nonzero(lengths[order[start:stop]] == longest))
        made.append(_pad(tokens, settings, order[start:stop], longest))
        start = stop
    return made


def unpacked(batch: AnyBatch) -> TokenBlock:
    """The cells of a batch as ragged tokens, in the order of the batch: what `batches` cuts anew under another plan."""
    lengths = batch.lengths
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    faults = np.zeros(len(lengths), np.uint8)
    if not isinstance(batch, Batch):
        return TokenBlock(batch.ids[: offsets[-1]], batch.values[: offsets[-1]], offsets, faults, 0)
    real = np.arange(batch.ids.shape[1]) < lengths[:, None]  # (n_cells, length)
    flags = None if batch.flags is None else batch.flags[real]
    return TokenBlock(batch.ids[real], batch.values[real], offsets, faults, 0, batch.labels, flags)


def _pad(tokens: TokenBlock, settings: TokenizerSettings, cells: NDArray[np.int64], length: int) -> Batch:
    ids = np.full((len(cells), length), settings.pad_id, tokens.ids.dtype)
    values = np.full((len(cells), length), pad_level(settings, tokens.values.dtype), tokens.values.dtype)
    flags = None if tokens.flags is None else np.zeros(ids.shape, np.uint8)
    lengths = np.empty(len(cells), np.int32)
    for row, cell in enumerate(cells):
        start, stop = tokens.offsets[cell], tokens.offsets[cell + 1]
        lengths[row] = stop - start
        ids[row, : stop - start] = tokens.ids[start:stop]
        values[row, : stop - start] = tokens.values[start:stop]
        if flags is not None and tokens.flags is not None:
            flags[row, : stop - start] = tokens.flags[start:stop]
    labels = None if tokens.labels is None else tokens.labels[cells]
    return Batch(ids, values, lengths, cells.astype(np.int64), labels, flags)
