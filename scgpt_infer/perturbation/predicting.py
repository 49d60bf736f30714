"""Control cells and combinations of genes in, predicted profiles out, batch by batch.

Each perturbation is asked of each control cell by itself, with all genes of the panel whether or not they are
expressed, so that an answer depends on its cell and its perturbation alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.interrupts import honour
from scgpt_infer.perturbation.asked import Combination
from scgpt_infer.perturbation.cells import Cells, Panel
from scgpt_runtime.cells import AnyBatch, Batch

__all__ = ["Answering", "Predicted", "predict", "unmeasured"]


class Answering(Protocol):
    """What is asked of an engine."""

    def answers(self, stream: Iterator[AnyBatch]) -> Iterator[tuple[AnyBatch, dict[str, NDArray[np.float32]]]]:
        """Each batch with its answer as it finishes, in any order."""


@dataclass(frozen=True, slots=True)
class Predicted:
    """Profiles of some cells after one perturbation.

    Attributes
    ----------
    combination
        Place of the perturbation among those that were asked for.
    cells
        (n,) places of the control cells.
    values
        (n, n_genes) float32 expected log-normalised expression of the panel's genes.
    nonzero
        (n, n_genes) float32 P(value > 0), from a model that tells it; else None.
    finite
        (n,) whether the answer is one.
    """

    combination: int
    cells: NDArray[np.int64]
    values: NDArray[np.float32]
    nonzero: NDArray[np.float32] | None
    finite: NDArray[np.bool_]


def unmeasured(combination: Combination, panel: Panel) -> tuple[int, ...]:
    """Token ids of its genes that the cells' file has no column for."""
    return tuple(token for token in combination.ids if token not in panel.ids)


def predict(
    engine: Answering,
    cells: Cells,
    panel: Panel,
    asked: Sequence[Combination],
    n_tokens: int,
    batch_cells: int,
) -> Iterator[Predicted]:
    """Ask the model for each perturbation of each cell.

    Parameters
    ----------
    engine
        Open for graph ``perturb``.
    cells, panel
        Control cells and their genes.
    asked
        Perturbations.
    n_tokens
        Size of the vocabulary, which decides how ids are told.
    batch_cells
        Cells of a batch.

    Yields
    ------
    Predicted
        In any order: all cells of all perturbations, each once.
    """
    n_cells, n_genes = len(cells.names), len(panel.ids)
    for batch, answers in engine.answers(_batches(cells, panel, asked, n_tokens, batch_cells)):
        honour()
        combination, places = int(batch.cells[0]) // n_cells, batch.cells % n_cells
        values = answers["value"][:, :n_genes]
        nonzero = answers["nonzero"][:, :n_genes] if "nonzero" in answers else None
        if nonzero is not None:
            values = values * nonzero  # the original multiplies by a draw of it: this is what that has as its mean
        finite: NDArray[np.bool_] = np.asarray(np.isfinite(values).all(axis=1))
        yield Predicted(combination, places, values, nonzero, finite)


def _batches(
    cells: Cells, panel: Panel, asked: Sequence[Combination], n_tokens: int, batch_cells: int
) -> Iterator[AnyBatch]:
    """Cells of one perturbation at a time; a cell is known by perturbation x n_cells + its place."""
    n_cells = len(cells.names)
    dtype = np.uint16 if n_tokens <= 0xFFFF else np.uint32
    for place, combination in enumerate(asked):
        more = unmeasured(combination, panel)
        ids = np.concatenate([panel.ids, np.array(more, np.int64)])
        flags = np.isin(ids, combination.ids).astype(np.uint8)
        for start in range(0, n_cells, batch_cells):
            stop = min(start + batch_cells, n_cells)
            values = np.zeros((stop - start, len(ids)), np.float32)
            values[:, : len(panel.ids)] = cells.values[start:stop].toarray()
            yield Batch(
                ids=np.tile(ids.astype(dtype), (stop - start, 1)),
                values=values,
                lengths=np.full(stop - start, len(ids), np.int32),
                cells=np.arange(place * n_cells + start, place * n_cells + stop),
                flags=np.tile(flags, (stop - start, 1)),
            )
