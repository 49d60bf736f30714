"""An engine that tells several things of each cell: its vector, those of its modalities, and values of features.

In: open engines, what is asked, and the batch of each cell. Out: one `Result` a block, with an output for each table.
It opens nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.facts import Facts
from scgpt_infer.integration.answering import with_labels
from scgpt_infer.multiomics.asked import Asked
from scgpt_infer.multiomics.heads import FromCells, Told, among_tokens
from scgpt_infer.run import Tally
from scgpt_infer.summary import Summary
from scgpt_infer.writers.sink import Record
from scgpt_runtime.cells import CellBlock, Result, TokenBlock
from scgpt_runtime.engine import Engine

__all__ = ["ModalityEngine", "ModalityFacts"]


@dataclass(frozen=True, slots=True)
class ModalityEngine:
    """Answers for cells of several modalities.

    Attributes
    ----------
    cells
        Makes vectors of cells.
    asked
        Features whose values are told.
    alone
        Modality to the token ids of its columns: a vector of each is told.
    from_cells
        Tells values from vectors; None where that is not asked.
    tokens
        Tells values from tokens; None where that is not asked.
    labels
        (n_cells,) int32 batch of each cell, negative for none; None where no graph asks for it.
    labelled
        Whether vectors themselves depend on the batch.
    """

    cells: Engine
    asked: Asked
    alone: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    from_cells: FromCells | None = None
    tokens: Engine | None = None
    labels: NDArray[np.int32] | None = None
    labelled: bool = False

    @property
    def timings(self) -> dict[str, float]:
        """Seconds by stage of all engines."""
        told = dict(self.cells.timings)
        for stage, seconds in ({} if self.tokens is None else self.tokens.timings).items():
            told[stage] += seconds
        return told

    def run(
        self, blocks: Iterable[CellBlock], columns: NDArray[np.int64], tick: Callable[[int], None]
    ) -> Iterator[Result]:
        """Results in the order of the blocks."""
        hidden = np.where(np.isin(columns, self.asked.ids), -1, columns)
        for block in blocks:
            labels = None if self.labels is None else self.labels[block.first_row : block.first_row + block.n_cells]
            result = self._vectors(block, columns, labels, tick)
            outputs = dict(result.outputs)
            for name, own in self.alone.items():
                outputs[name] = self._vectors(block, own, labels).outputs["cell"]
            if self.from_cells is not None:
                given = None if labels is None else np.maximum(labels, 0)
                outputs |= self._tables(self.from_cells(outputs["cell"], given), labels)
            if self.tokens is not None:
                outputs |= self._tables(self._at_tokens(self.tokens, block, hidden, labels), labels)
            yield replace(result, outputs=outputs)

    def _vectors(
        self,
        block: CellBlock,
        columns: NDArray[np.int64],
        labels: NDArray[np.int32] | None,
        tick: Callable[[int], None] = lambda cells: None,
    ) -> Result:
        def labelled(_: CellBlock, tokens: TokenBlock) -> TokenBlock:
            return tokens if labels is None or not self.labelled else with_labels(tokens, labels)

        (result,) = self.cells.run([block], columns, tick, change=labelled)
        return result

    def _at_tokens(
        self, engine: Engine, block: CellBlock, columns: NDArray[np.int64], labels: NDArray[np.int32] | None
    ) -> Told:
        def with_asked(_: CellBlock, tokens: TokenBlock) -> TokenBlock:
            if labels is not None:
                tokens = with_labels(tokens, labels)
            return among_tokens(tokens, self.asked.ids, engine.settings)

        (result,) = engine.run([block], columns, change=with_asked)
        return result.outputs

    def _tables(self, told: Told, labels: NDArray[np.int32] | None) -> Told:
        """Answers cut by modality, under the names of their tables; NaN for a cell without a batch."""
        found = {}
        for what, numbers in told.items():
            if labels is not None:
                numbers[labels < 0] = np.nan
            for name, span in self.asked.spans().items():
                found[f"{name}_{what}"] = numbers[:, span]
        return found


@dataclass(frozen=True, slots=True)
class ModalityFacts:
    """What is told of a run: all that an embedding run tells, and which modalities it read."""

    facts: Facts
    told: Record

    @property
    def key(self) -> str:
        """Name of the embedding under ``obsm``."""
        return self.facts.key

    def record(self, n_cells: int, n_bad: int) -> Record:
        """Flat facts that go with the result."""
        return {**self.facts.record(n_cells, n_bad), **self.told}

    def summary(self, tally: Tally, output: Path | None) -> Summary:
        """Everything of a finished run."""
        return self.facts.summary(tally, output)
