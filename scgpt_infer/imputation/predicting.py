"""The model's predictions for hidden genes: `Imputer`, which a job asks as it asks an engine.

In: an open engine, a head of its bundle, and `Hiding`. Out: results whose rows are cells, with a number a gene. It
opens no file.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.imputation.hiding import Hiding
from scgpt_infer.imputation.scale import expected, to_scale
from scgpt_runtime.answering import GraphRunner
from scgpt_runtime.batching import unpacked
from scgpt_runtime.cells import AnyBatch, CellBlock, CellFault, Result
from scgpt_runtime.engine import Engine
from scgpt_runtime.errors import BundleError, InternalError

__all__ = ["Imputer", "MaskedPredictions"]

_NUMBERS = 1 << 22
"""Numbers that the decoder from the cell embedding works on at a time, about."""


@dataclass(slots=True)
class MaskedPredictions:
    """A fold: what the expression head says at the masks of a row.

    Attributes
    ----------
    width
        Masks that each row has at different genes.
    mask
        Value code, or value, of a mask.
    nonzero
        Whether the head tells probabilities, too.
    head
        The open ``expression`` graph; set once the engine has chosen a precision.
    """

    width: int
    mask: float
    nonzero: bool
    head: GraphRunner | None = None

    @property
    def pooling(self) -> str:
        """Its name in ids of vectors."""
        return "imputed"

    def outputs(self, dim: int) -> dict[str, tuple[int, ...]]:
        """A number for each gene that is asked for, by ascending id."""
        return dict.fromkeys(("value", *(["nonzero"] if self.nonzero else [])), (self.width,))

    def __call__(self, batch: AnyBatch, answers: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """(n_cells, width) answers of the head."""
        if self.head is None:
            raise InternalError("Masks were answered before there was a head.")
        tokens = unpacked(batch)
        places = np.empty((tokens.n_cells, self.width), np.int64)
        for row in range(tokens.n_cells):
            own = slice(tokens.offsets[row], tokens.offsets[row + 1])
            masks = np.flatnonzero(tokens.values[own] == self.mask)
            # A gene of two columns has two masks, which are answered alike.
            _, firsts = np.unique(tokens.ids[own][masks], return_index=True)
            places[row] = masks[firsts]
        hidden = answers["hidden"][np.arange(tokens.n_cells)[:, None], places]  # (n_cells, width, dim)
        fed: dict[str, NDArray[Any]] = {"hidden": np.ascontiguousarray(hidden)}
        if any(spec.name == "batch" for spec in self.head.inputs):
            if tokens.labels is None:
                raise BundleError("Cells that are packed have no batch labels here: take --provider cpu (provider).")
            fed["batch"] = tokens.labels
        return self.head.feed(fed)


@dataclass(frozen=True, slots=True)
class Imputer:
    """Asks an engine about rows, and puts the cells together again.

    Attributes
    ----------
    engine
        Open: with `MaskedPredictions`, or for cell embeddings.
    hiding
        Makes the rows.
    order
        (n_genes,) place of each gene that was asked for among the ascending ids.
    decoder
        The open ``mvc`` graph; None where the engine tells values itself.
    weighed
        Whether zeros are weighed in, by their probability.
    sizes
        First row and number of cells of the blocks that were read and not yet answered.
    """

    engine: Engine
    hiding: Hiding
    order: NDArray[np.int64]
    decoder: GraphRunner | None = None
    weighed: bool = False
    sizes: list[tuple[int, int]] = field(default_factory=list)

    @property
    def timings(self) -> dict[str, float]:
        """Seconds by stage since the engine was opened."""
        return self.engine.timings

    def run(
        self, blocks: Iterable[CellBlock], columns: NDArray[np.int64], tick: Callable[[int], None]
    ) -> Iterator[Result]:
        """Results in the order of the blocks: outputs ``value`` and perhaps ``nonzero``, (n_cells, n_genes)."""
        rows = self.hiding.rows(self._noted(blocks))
        done, each = 0, self.hiding.rows_each

        def told(n_rows: int) -> None:
            nonlocal done
            done += n_rows
            tick(done // each - (done - n_rows) // each)

        results = self.engine.run(rows, columns, told, change=self.hiding.masked)
        try:
            parts: list[Result] = []
            for result in results:
                parts.append(self._decoded(result))
                first, n_cells = self.sizes[0]
                if sum(part.n_cells for part in parts) == n_cells * each:
                    yield self._cells(parts, first, n_cells)
                    self.sizes.pop(0)
                    parts = []
        finally:
            close = getattr(results, "close", None)  # an error's traceback would keep the engine's threads alive
            if close is not None:
                close()

    def _noted(self, blocks: Iterable[CellBlock]) -> Iterator[CellBlock]:
        for block in blocks:
            self.sizes.append((block.first_row, block.n_cells))
            yield block

    def _decoded(self, result: Result) -> Result:
        """The numbers of rows, on the scale that was asked for."""
        known = self.hiding.known.pop(result.first_row, None)
        outputs = result.outputs if self.decoder is None else self._from_cells(result, self.decoder)
        if known is not None and known.edges is not None:
            bins, edges = outputs["value"], known.edges
            scaled = expected(bins, outputs["nonzero"], edges) if self.weighed else to_scale(bins, edges)
            outputs = {**outputs, "value": scaled}
        return Result(outputs, result.faults, result.lengths, result.first_row)

    def _from_cells(self, result: Result, decoder: GraphRunner) -> dict[str, NDArray[np.float32]]:
        cell = np.ascontiguousarray(result.outputs["cell"])  # (n_rows, dim)
        genes = self.hiding.genes_of(result.first_row, len(cell))
        kind = np.uint16 if self.hiding.n_tokens <= 0xFFFF else np.uint32
        labels = self.hiding.labels_of(result.first_row, len(cell))
        step = max(1, _NUMBERS // (genes.shape[1] * cell.shape[1]))
        parts = []
        for start in range(0, len(cell), step):
            rows = slice(start, start + step)
            fed: dict[str, NDArray[Any]] = {"cell": cell[rows], "ids": np.ascontiguousarray(genes[rows], kind)}
            if labels is not None and any(spec.name == "batch" for spec in decoder.inputs):
                fed["batch"] = np.maximum(labels[rows], 0)
            parts.append(decoder.feed(fed))
        told = {name: np.concatenate([part[name] for part in parts]).astype(np.float32) for name in parts[0]}
        for numbers in told.values():
            numbers[result.faults != CellFault.NONE] = np.nan
        return told

    def _cells(self, parts: list[Result], first: int, n_cells: int) -> Result:
        """Rows as cells: a cell is bad where one of its rows is."""
        faults = np.concatenate([part.faults for part in parts]).reshape(n_cells, -1)
        lengths = np.concatenate([part.lengths for part in parts]).reshape(n_cells, -1)
        worst = faults[np.arange(n_cells), (faults != CellFault.NONE).argmax(axis=1)]
        outputs = {}
        for name in parts[0].outputs:
            numbers = np.concatenate([part.outputs[name] for part in parts]).reshape(n_cells, -1)[:, self.order]
            numbers[worst != CellFault.NONE] = np.nan
            outputs[name] = numbers
        return Result(outputs, worst, lengths.max(axis=1), first)
