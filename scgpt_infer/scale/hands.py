"""Workers as their crew knows them: `Hand`, what tells two apart (`difference`), and what stands in for their engines.

Plain values and words. It knows no messages on their way.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.scale.messages import Ready
from scgpt_infer.scale.seats import Seat
from scgpt_runtime.cells import CellBlock, Result
from scgpt_runtime.choosing import as_asked
from scgpt_runtime.errors import InternalError
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.providers import ProviderChoice

__all__ = ["Absent", "Hand", "difference", "why_of"]


@dataclass(slots=True)
class Hand:
    """A worker, as its crew knows it.

    Attributes
    ----------
    seat
        What it has.
    ready
        What it runs; None until it has come up.
    ended
        Whether it takes no more ranges.
    held
        Ranges that it was given and has not done.
    ticked
        Cells of them that it says are answered.
    """

    seat: Seat
    ready: Ready | None = None
    ended: bool = False
    held: deque[range] = field(default_factory=deque)
    ticked: int = 0

    @property
    def where(self) -> str:
        """Which one it is, for people."""
        return "A worker" if self.ready is None else f"Worker {self.ready.where}"

    @property
    def counted(self) -> int:
        """Cells of its ranges that are answered, as far as it has said."""
        return min(self.ticked, sum(map(len, self.held)))


@dataclass(frozen=True, slots=True)
class Absent:
    """Stands in for the engines of workers where facts of them are told; see `scgpt_infer.facts.Ran`."""

    choice: ProviderChoice
    settings: TokenizerSettings
    vector_id: str
    batch_tokens: int
    timings: dict[str, float] = field(default_factory=dict)

    def run(
        self, blocks: Iterable[CellBlock], columns: NDArray[np.int64], tick: Callable[[int], None]
    ) -> Iterator[Result]:
        """Not here."""
        raise InternalError("Workers answer, and this process was asked to.")


def difference(first: Ready, other: Ready) -> str:
    """Why two workers would not give the same bits; empty where they would."""
    pairs = {
        "version of scgpt-infer": (first.version, other.version),
        "number of cells": (first.n_cells, other.n_cells),
        "genes": (first.columns, other.columns),
        "vector id": (first.vector_id, other.vector_id),
        "graph": (_graph(first), _graph(other)),
    }
    for name, (here, there) in pairs.items():
        if here != there:
            return f"its {name} is {there}, and that of {first.where} is {here}."
    return ""


def why_of(choice: ProviderChoice, seat: Seat) -> str:
    """Why a worker runs so, in words: its threads are what its seat gives it, which nobody asked for by number."""
    if seat.threads is None:
        return choice.why
    return choice.why.replace(as_asked(seat.threads), f"{seat.threads} thread{'s' * (seat.threads > 1)}, its share")


def _graph(ready: Ready) -> str:
    return f"{ready.choice.provider} {ready.choice.precision} {ready.choice.dialect}"
