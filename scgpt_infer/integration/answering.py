"""An engine whose cells have batch labels, and what a run of it tells: `LabelledEngine`, `BatchFacts`.

In: an open engine, and the batch of each cell. Out: what a job asks of either. They open nothing.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.facts import Facts
from scgpt_infer.integration.batches import CellBatches
from scgpt_infer.run import Tally
from scgpt_infer.summary import Summary
from scgpt_infer.writers.sink import Record
from scgpt_runtime.cells import CellBlock, CellFault, Result, TokenBlock
from scgpt_runtime.engine import Engine

__all__ = ["BatchFacts", "LabelledEngine", "with_labels"]


@dataclass(frozen=True, slots=True)
class LabelledEngine:
    """Answers for cells as members of their batches.

    Attributes
    ----------
    engine
        Open, for a graph that asks for batch labels.
    labels
        (n_cells,) int32 batch of each cell of the source, negative for none.
    """

    engine: Engine
    labels: NDArray[np.int32]

    @property
    def timings(self) -> dict[str, float]:
        """Seconds by stage since the engine was opened."""
        return self.engine.timings

    def run(
        self, blocks: Iterable[CellBlock], columns: NDArray[np.int64], tick: Callable[[int], None]
    ) -> Iterator[Result]:
        """Results in the order of the blocks."""
        return self.engine.run(blocks, columns, tick, change=self._labelled)

    def _labelled(self, block: CellBlock, tokens: TokenBlock) -> TokenBlock:
        return with_labels(tokens, self.labels[block.first_row : block.first_row + block.n_cells])


def with_labels(tokens: TokenBlock, labels: NDArray[np.int32]) -> TokenBlock:
    """The same cells with their batches; those without one lose their tokens, and have the reason.

    Parameters
    ----------
    tokens
        A block.
    labels
        (n_cells,) int32, negative for none.
    """
    there = labels >= 0
    if there.all():
        return replace(tokens, labels=labels)
    lengths = np.diff(tokens.offsets)
    among = np.repeat(there, lengths)  # (n_tokens,)
    no_batch = ~there & (tokens.faults == CellFault.NONE)
    return replace(
        tokens,
        ids=tokens.ids[among],
        values=tokens.values[among],
        offsets=np.concatenate([[0], np.cumsum(np.where(there, lengths, 0))]).astype(np.int64),
        faults=np.where(no_batch, CellFault.NO_BATCH, tokens.faults).astype(np.uint8),
        labels=np.maximum(labels, 0),
    )


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """What is told of a run: all that an embedding run tells, and whose statistics cells had.

    Attributes
    ----------
    facts
        Of the run.
    batches
        The batch of each cell; None where the model has no statistics of batches.
    column
        Column that the batches stand in, whether or not the model reads them.
    """

    facts: Facts
    batches: CellBatches | None
    column: str

    @property
    def key(self) -> str:
        """Name of the embedding under ``obsm``."""
        return self.facts.key

    @property
    def vector_id(self) -> str:
        """Id of the vectors. The original's rule gives another one: it makes other vectors of the same cells."""
        own = self.facts.engine.vector_id
        if self.batches is None or self.batches.how.batch_statistics == "cell":
            return own
        return hashlib.sha256(f"{own} batch_statistics={self.batches.how.batch_statistics}".encode()).hexdigest()[:32]

    def record(self, n_cells: int, n_bad: int) -> Record:
        """Flat facts that go with the result."""
        none: Record = {"batch_column": self.column, "batch_statistics": "none"}
        told = none if self.batches is None else self.batches.facts
        return {**self.facts.record(n_cells, n_bad), **told, "vector_id": self.vector_id}

    def summary(self, tally: Tally, output: Path | None) -> Summary:
        """Everything of a finished run."""
        return replace(self.facts.summary(tally, output), vector_id=self.vector_id)
