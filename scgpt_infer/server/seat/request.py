"""A request while it waits and is worked on: its tokens, and the rows that are there so far.

In: tokens of cells. Out: a `Result` once every cell has its row. It knows neither sockets nor the model.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.cells import CellFault, Result, TokenBlock

__all__ = ["Request", "Slice"]


@dataclass(slots=True, eq=False)
class Request:
    """Cells that somebody waits for.

    Attributes
    ----------
    tokens
        Of its cells.
    client
        Whose turn they count for.
    until
        When nobody wants the answer any more, on the clock of `time.monotonic`. None: never.
    end
        Told once, when all rows are there or the request has failed: the request, and the error or None.
    arrived
        When it came.
    begun
        When its first cells went to the model; None while all wait.
    next
        Its first cell that still waits.
    gone
        Whether it has ended, so that what is left of it is of no use.
    infer
        Seconds that the model was at work on batches with cells of it.
    tick
        Told of each number of cells that is answered.
    """

    tokens: TokenBlock
    client: str
    until: float | None
    end: Callable[["Request", Exception | None], None]
    arrived: float = field(default_factory=time.monotonic)
    begun: float | None = None
    next: int = 0
    gone: bool = False
    infer: float = 0.0
    tick: Callable[[int], None] = lambda cells: None
    _left: int = field(init=False)
    _rows: dict[str, NDArray[np.float32]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._left = int(np.count_nonzero(np.diff(self.tokens.offsets)))

    @property
    def n_tokens(self) -> int:
        """Tokens of all of its cells."""
        return len(self.tokens.ids)

    @property
    def tokens_left(self) -> int:
        """Tokens of its cells that still wait."""
        return int(self.tokens.offsets[-1] - self.tokens.offsets[self.next])

    @property
    def done(self) -> bool:
        """Whether every cell that can have a row has one."""
        return self._left == 0

    def expired(self, now: float) -> bool:
        """Whether the answer would come too late."""
        return self.until is not None and now >= self.until

    def put(self, cells: NDArray[np.int64], answers: dict[str, NDArray[Any]], rows: NDArray[np.int64]) -> None:
        """Take the rows of some of its cells: ``answers[name][rows]`` are those of ``cells``."""
        for name, found in answers.items():
            if name not in self._rows:
                self._rows[name] = np.full((self.tokens.n_cells, *found.shape[1:]), np.nan, np.float32)
            self._rows[name][cells] = found[rows]
        self._left -= len(cells)
        self.tick(len(cells))

    def result(self, shapes: dict[str, tuple[int, ...]]) -> Result:
        """What the model says of its cells.

        Parameters
        ----------
        shapes
            Output name to the shape of a row, for a request in which no cell has one.
        """
        n_cells, faults = self.tokens.n_cells, self.tokens.faults.copy()
        rows = {
            name: self._rows.get(name, np.full((n_cells, *shape), np.nan, np.float32)) for name, shape in shapes.items()
        }
        finite = np.logical_and.reduce(
            [np.isfinite(found).all(axis=tuple(range(1, found.ndim))) for found in rows.values()]
        )
        faults[~finite & (faults == CellFault.NONE)] = CellFault.NOT_FINITE
        lengths = np.where(faults == CellFault.NONE, np.diff(self.tokens.offsets), 0).astype(np.int32)
        return Result(rows, faults, lengths, 0)

    def fail(self, error: Exception) -> None:
        """End it without an answer; what is left of it is passed over."""
        if not self.gone:
            self.gone = True
            self.end(self, error)

    def finish(self) -> None:
        """End it with its answer."""
        if not self.gone:
            self.gone = True
            self.end(self, None)


@dataclass(frozen=True, slots=True)
class Slice:
    """Consecutive cells of a request, ``start`` to ``stop``."""

    request: Request
    start: int
    stop: int
