"""What is asked of a measuring process and what it answers: `Order` and `Reading`.

Plain values, to and from JSON. They know neither engines nor people's figures.
"""

from dataclasses import dataclass

__all__ = ["Latencies", "Order", "Reading", "Run"]


@dataclass(frozen=True, slots=True)
class Order:
    """What to measure.

    Attributes
    ----------
    bundle
        Its folder or zip.
    provider, precision, threads, batch_tokens
        Options of the engine.
    lengths
        Lengths in tokens.
    seconds
        Of each measurement, about.
    seed
        Of the random cells.
    sample
        A file of `scgpt_infer.bench.lengths.save_tokens`.
    prove
        Whether to compare the golden cells.
    began
        ``time.monotonic()`` when the process was started; one clock for all processes.
    """

    bundle: str
    provider: str
    precision: str
    threads: int | None
    batch_tokens: int | None
    lengths: tuple[int, ...]
    seconds: float
    seed: int
    sample: str | None
    prove: bool
    began: float


@dataclass(frozen=True, slots=True)
class Run:
    """Cells that were answered with all instances at work; joules are None where they cannot be read."""

    length: int
    cells: int
    tokens: int
    seconds: float
    joules: float | None


@dataclass(frozen=True, slots=True)
class Latencies:
    """Seconds from one cell's tokens to its vector, answer by answer."""

    length: int
    seconds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """What one process found.

    Attributes
    ----------
    runs_on, why, instances, threads
        What the engine opened.
    one_minus_cosine
        Worst golden cell; None if it was not asked for.
    process_s, open_s, first_s
        Start-up: until imports are done, to open, to answer a first golden cell.
    opened, opening_peak, working, working_peak
        Bytes; see `scgpt_infer.bench.result.MemoryUse`.
    runs, latencies
        One for each length.
    sample
        The run over the sample, none or one.
    """

    runs_on: str
    why: str
    instances: int
    threads: int
    one_minus_cosine: float | None
    process_s: float
    open_s: float
    first_s: float
    opened: int | None
    opening_peak: int | None
    working: int | None
    working_peak: int | None
    runs: tuple[Run, ...]
    latencies: tuple[Latencies, ...]
    sample: tuple[Run, ...]
