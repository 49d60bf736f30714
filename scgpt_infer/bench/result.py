"""What a benchmark found, as plain values: `BenchResult` and the records in it.

In and out: nothing but numbers and words. Its JSON is described by ``schema.json`` beside this file.
"""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self

from scgpt_infer.bench.energy import EnergySource
from scgpt_infer.bench.machine import MachineFacts
from scgpt_runtime.providers import ON_GPU

__all__ = [
    "FORMAT",
    "AtLength",
    "BenchResult",
    "BundleFacts",
    "CellFacts",
    "Combination",
    "Latency",
    "MemoryUse",
    "Peak",
    "Settings",
    "Spread",
    "StartUp",
    "Throughput",
]

FORMAT = 1
"""Number of the JSON's layout; a change that a reader could trip over raises it."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The same figure of several rounds: median, lowest, highest, and how many there were."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """The spread of at least one figure."""
        return cls(statistics.median(values), min(values), max(values), len(values))


@dataclass(frozen=True, slots=True)
class Throughput:
    """All cores at work on many cells.

    Attributes
    ----------
    cells_per_second
        One figure a round.
    tokens_per_second
        Median; padding does not count.
    tflops
        10^12 operations of the model per second, by `scgpt_infer.bench.work`; None where the bundle tells no sizes.
    share
        Of the matrix-product peak at the same precision, 0 to 1.
    joules_per_cell
        Of processor packages and memory, idle draw included; None where it cannot be read.
    cost_per_million
        Price of a million cells, in the unit of the price an hour; None without a price.
    """

    cells_per_second: Spread
    tokens_per_second: float
    tflops: float | None
    share: float | None
    joules_per_cell: float | None
    cost_per_million: float | None


@dataclass(frozen=True, slots=True)
class Latency:
    """One cell alone, all cores given to it, from its tokens to its vector; milliseconds over all rounds."""

    p50_ms: float
    p99_ms: float
    answers: int


@dataclass(frozen=True, slots=True)
class AtLength:
    """What a combination does with cells of one length in tokens."""

    length: int
    throughput: Throughput
    latency: Latency


@dataclass(frozen=True, slots=True)
class StartUp:
    """Seconds of a fresh process: until its imports are done, to open the model, to answer a first cell, in all."""

    process: Spread
    open: Spread
    first: Spread
    total: Spread


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes that the process of a combination held; None where the system does not tell.

    Attributes
    ----------
    opened
        After opening: proportional set size, median of the rounds.
    opening_peak
        Most that was resident until then.
    working
        After the throughput runs: proportional set size, median of the rounds.
    working_peak
        Most that was resident until then.
    """

    opened: int | None
    opening_peak: int | None
    working: int | None
    working_peak: int | None


@dataclass(frozen=True, slots=True)
class Combination:
    """One provider at one precision.

    Attributes
    ----------
    provider, precision
        As the options name them.
    is_auto
        Whether ``auto`` takes it here.
    error
        Why there are no figures; None where there are.
    runs
        What really ran, with its version.
    why
        The engine's reason for the choice.
    instances, threads
        Instances in the throughput runs, and threads of each.
    one_minus_cosine
        Worst golden cell against the fp32 reference vectors that the bundle carries.
    start_up, memory, lengths, cells
        The figures; `cells` is about the user's own.
    """

    provider: str
    precision: str
    is_auto: bool
    error: str | None
    runs: str = ""
    why: str = ""
    instances: int = 0
    threads: int = 0
    one_minus_cosine: float | None = None
    start_up: StartUp | None = None
    memory: MemoryUse | None = None
    lengths: tuple[AtLength, ...] = ()
    cells: Throughput | None = None

    @property
    def name(self) -> str:
        """Provider and precision, for people."""
        return f"{self.provider} {self.precision}"

    @property
    def on_gpu(self) -> bool:
        """Whether it computes on a GPU."""
        return self.provider in ON_GPU


@dataclass(frozen=True, slots=True)
class Peak:
    """Fastest matrix products that were reached at a precision or a wider one, and with what."""

    precision: str
    tflops: float
    by: str

    @property
    def on_gpu(self) -> bool:
        """Whether the products ran on a GPU; what a processor computes is not held against them."""
        return self.by.split()[0] in ON_GPU


@dataclass(frozen=True, slots=True)
class BundleFacts:
    """The model: `operations_per_token` and `operations_per_pair` give the operations of a cell of L tokens as
    ``operations_per_token * L + operations_per_pair * L**2``; None where the bundle does not tell its size.
    """

    name: str
    weights: str
    layers: int | None
    width: int
    max_length: int
    operations_per_token: int | None
    operations_per_pair: int | None


@dataclass(frozen=True, slots=True)
class CellFacts:
    """The user's cells: how many, their lengths in tokens, and the sample whose throughput is measured.

    Attributes
    ----------
    n_cells, n_bad
        Cells of the file, and those of them without tokens.
    mean, quantiles
        Lengths: mean, and quantiles by their percent.
    histogram, bin_width
        Cells by length: bin i counts lengths from ``i * bin_width``.
    sampled, sampled_mean
        Cells of the sample and their mean length.
    """

    file: str
    n_cells: int
    n_bad: int
    mean: float
    quantiles: dict[str, int]
    histogram: tuple[int, ...]
    bin_width: int
    sampled: int
    sampled_mean: float


@dataclass(frozen=True, slots=True)
class Settings:
    """How it was measured: `price` is per hour, `threads` are cores in all."""

    rounds: int
    seconds: float
    seed: int
    threads: int
    batch_tokens: int | None
    price: float | None


@dataclass(frozen=True, slots=True)
class BenchResult:
    """Everything that a benchmark found; `load` is the load average of the minute before it."""

    format: int
    date: str
    command: str
    load: float | None
    machine: MachineFacts
    bundle: BundleFacts
    settings: Settings
    energy: EnergySource
    peaks: tuple[Peak, ...]
    cells: CellFacts | None
    combinations: tuple[Combination, ...]

    def to_json(self) -> str:
        """One JSON object with the fields as they are; never NaN or infinity."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False)
