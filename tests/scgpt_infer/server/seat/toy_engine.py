"""An engine that answers at once, or when it is let: a cell's row is the sum of its ids, its length, and a constant."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.batching import BatchPlan, batches
from scgpt_runtime.cells import AnyBatch, TokenBlock
from scgpt_runtime.manifest import TokenizerSettings

SETTINGS = TokenizerSettings(cls_id=101, pad_id=100, max_length=64, seed=7)


def tokens(*lengths: int, first: int = 0) -> TokenBlock:
    """Cells of so many tokens each; the ids of cell i are all ``first + i``; length 0 is a bad cell."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.repeat(np.arange(first, first + len(lengths)), lengths).astype(np.uint16)
    faults = (np.array(lengths) == 0).astype(np.uint8)
    return TokenBlock(ids, np.zeros(len(ids), np.uint8), offsets, faults, 0)


def row_of(identity: int, length: int) -> list[float]:
    """What the engine says of a cell."""
    return [float(identity * length), float(length), 1.0]


class ToyEngine:
    """See `scgpt_infer.server.seat.work.Works`."""

    def __init__(self, budget: int = 16) -> None:
        self.batch_tokens = budget
        self.open = threading.Event()
        self.open.set()
        self.begun = threading.Semaphore(0)
        self.seen: list[list[int]] = []
        self.broken: set[int] = set()

    def batches(self, block: TokenBlock) -> Sequence[AnyBatch]:
        return batches(block, SETTINGS, BatchPlan("padded", self.batch_tokens))

    def infer(self, batch: AnyBatch) -> dict[str, NDArray[Any]]:
        first = batch.ids[:, 0].tolist()
        self.seen.append(first)
        self.begun.release()
        assert self.open.wait(20)
        if self.broken & set(first):
            raise ValueError("broken")
        real = np.arange(batch.ids.shape[1]) < batch.lengths[:, None]
        total = (batch.ids * real).sum(axis=1)
        return {"cell": np.stack([total, batch.lengths, np.ones(len(total))], axis=1).astype(np.float32)}
