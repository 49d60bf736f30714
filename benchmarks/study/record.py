"""The record of a comparison: everything that tables, charts and readers of the JSON are told.

In: outcomes of runs. Out: a `Record` that is plain data, to and from JSON. It neither runs nor draws anything.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.study.figures import Likeness, Run, Spread, spread

__all__ = ["Entry", "LongCells", "Record", "flop_a_cell"]


@dataclass(slots=True)
class Entry:
    """What a side did.

    Attributes
    ----------
    name, label, ours
        See `benchmarks.study.sides.Side`.
    runs
        One a round.
    facts
        What the side says of itself.
    reason
        Why it did not run; empty where it did.
    likeness
        To fp32, on the tokens that it embedded.
    parity
        Our sides only: to the original as shipped, on the tokens that the original drew.
    """

    name: str
    label: str
    ours: bool
    runs: list[Run] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    likeness: Likeness | None = None
    parity: Likeness | None = None

    @property
    def whole(self) -> Spread:
        """Seconds from process start to process end, vocabulary of the original not counted."""
        return spread([run.whole_seconds for run in self.runs])

    @property
    def start(self) -> Spread:
        """Seconds from process start to the first answer, likewise."""
        return spread([run.start_seconds for run in self.runs])

    @property
    def steady(self) -> Spread:
        """Cells a second without the start."""
        return spread([run.steady_rate for run in self.runs])

    @property
    def peak_bytes(self) -> int:
        """Most memory of one process in any round."""
        return max(run.peak_bytes for run in self.runs)


@dataclass(frozen=True, slots=True)
class LongCells:
    """What a side does with cells of the longest length.

    Attributes
    ----------
    name, label
        The side.
    precision
        Whose peak it is measured against.
    rate
        Cells a second from the first answer to the last.
    tflops
        Of the median rate, at `flop_a_cell`.
    share
        Of the peak of matrix products measured in the same run; int8 is measured against bf16.
    """

    name: str
    label: str
    precision: str
    rate: Spread
    tflops: float
    share: float


@dataclass(slots=True)
class Record:
    """A comparison.

    Attributes
    ----------
    machine
        See `benchmarks.study.machine`.
    settings
        Cells, rounds, lengths, allocator: name to text.
    peak
        TFLOP/s by precision.
    entries
        The sides in order.
    long
        Our sides on cells of the longest length.
    """

    machine: dict[str, str]
    settings: dict[str, str]
    peak: dict[str, float]
    entries: list[Entry]
    long: list[LongCells] = field(default_factory=list)

    def entry(self, name: str) -> Entry | None:
        """A side that ran; None where it did not."""
        return next((entry for entry in self.entries if entry.name == name and entry.runs), None)

    def save(self, path: Path) -> None:
        """Write JSON, with the derived figures beside the raw ones."""
        told: dict[str, Any] = asdict(self)
        for entry, shown in zip(self.entries, told["entries"], strict=True):
            if entry.runs:
                shown |= {name: asdict(getattr(entry, name)) for name in ("whole", "start", "steady")}
        path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def flop_a_cell(args: dict[str, Any], length: int) -> float:
    """Floating-point operations of the transformer's layers for one cell, a product and a sum counted as two.

    37.75 million x L + 24,576 x L^2 for the public whole-human size. What a rewrite leaves out still counts.
    """
    layers, dim, hidden = int(args["nlayers"]), int(args["embsize"]), int(args["d_hid"])
    linear = 2 * layers * (4 * dim * dim + 2 * dim * hidden)
    return float(linear * length + 4 * layers * dim * length**2)
