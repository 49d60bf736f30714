"""Slices of requests become batches, and the rows of a batch go back to their requests: `units_of`, `Unit`.

In: cells of any requests, and what packs tokens into batches. It knows neither queues nor sockets.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.server.seat.request import Request, Slice
from scgpt_runtime.cells import AnyBatch, TokenBlock

__all__ = ["Ending", "Owner", "Unit", "units_of"]


class Owner(Protocol):
    """Whose rows the rows of a batch are."""

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits for them."""
        ...

    def put(self, batch: AnyBatch, answers: dict[str, NDArray[Any]], seconds: float) -> Sequence["Ending"]:
        """Take the answers of a batch, under the lock of whoever works; gives what is whole now."""
        ...

    def fail(self, error: Exception) -> None:
        """There is no answer."""
        ...


class Ending(Protocol):
    """What is whole and can be given back."""

    def finish(self) -> None:
        """Give it back."""
        ...


@dataclass(frozen=True, slots=True)
class Unit:
    """A batch that is ready for the model.

    Attributes
    ----------
    batch
        The batch.
    owner
        Whose it is.
    tokens
        Tokens of its cells, without padding.
    """

    batch: AnyBatch
    owner: Owner
    tokens: int


@dataclass(frozen=True, slots=True)
class _Several:
    """The cells of a batch are of several requests."""

    requests: Sequence[Request]
    places: NDArray[np.int64]  # (n_cells,) of the request of each cell of the batch
    cells: NDArray[np.int64]  # (n_cells,) the cell of that request

    @property
    def wanted(self) -> bool:
        return any(not self.requests[place].gone for place in np.unique(self.places).tolist())

    def put(self, batch: AnyBatch, answers: dict[str, NDArray[Any]], seconds: float) -> list[Request]:
        whole = []
        for place in np.unique(self.places).tolist():
            request = self.requests[place]
            if request.gone:
                continue
            rows = np.flatnonzero(self.places == place)
            request.infer += seconds
            request.put(self.cells[rows], answers, rows)
            if request.done:
                whole.append(request)
        return whole

    def fail(self, error: Exception) -> None:
        for place in np.unique(self.places).tolist():
            self.requests[place].fail(error)


def units_of(slices: Sequence[Slice], pack: Callable[[TokenBlock], Sequence[AnyBatch]]) -> list[Unit]:
    """The batches of slices of requests, longest cells first.

    Parameters
    ----------
    slices
        Cells whose turn it is.
    pack
        As `scgpt_runtime.engine.Engine.batches`.
    """
    if not slices:
        return []
    blocks = [piece.request.tokens for piece in slices]
    starts = [block.offsets[piece.start] for piece, block in zip(slices, blocks, strict=True)]
    stops = [block.offsets[piece.stop] for piece, block in zip(slices, blocks, strict=True)]
    spans = [slice(start, stop) for start, stop in zip(starts, stops, strict=True)]
    lengths = [
        np.diff(block.offsets[piece.start : piece.stop + 1]) for piece, block in zip(slices, blocks, strict=True)
    ]
    together = TokenBlock(
        ids=np.concatenate([block.ids[span] for block, span in zip(blocks, spans, strict=True)]),
        values=np.concatenate([block.values[span] for block, span in zip(blocks, spans, strict=True)]),
        offsets=np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64),
        faults=np.concatenate([block.faults[p.start : p.stop] for p, block in zip(slices, blocks, strict=True)]),
        first_row=0,
    )
    requests = [piece.request for piece in slices]
    places = np.repeat(np.arange(len(slices)), [piece.stop - piece.start for piece in slices])
    cells = np.concatenate([np.arange(piece.start, piece.stop) for piece in slices])
    return [
        Unit(batch, _Several(requests, places[batch.cells], cells[batch.cells]), int(batch.lengths.sum()))
        for batch in pack(together)
    ]
