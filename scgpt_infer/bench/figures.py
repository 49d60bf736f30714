"""Readings of several rounds become the figures that people read: medians with spread, rates, shares, prices.

In: `Reading` of each round and what to hold them against. Out: `Combination`. It measures nothing.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from scgpt_infer.bench.reading import Reading, Run
from scgpt_infer.bench.result import AtLength, Combination, Latency, MemoryUse, Peak, Spread, StartUp, Throughput
from scgpt_infer.bench.work import Work

__all__ = ["Scale", "figures"]


@dataclass(frozen=True, slots=True)
class Scale:
    """What readings are held against.

    Attributes
    ----------
    work
        Operations of the model.
    sample
        Lengths of the sampled cells of the user.
    peaks
        By precision.
    price
        Of the machine an hour.
    """

    work: Work | None
    sample: tuple[int, ...]
    peaks: dict[str, Peak]
    price: float | None

    def operations(self, lengths: Sequence[int]) -> float | None:
        """Mean operations of a cell of these lengths."""
        if self.work is None or not lengths:
            return None
        return statistics.fmean(map(self.work.operations, lengths))


def figures(provider: str, precision: str, is_auto: bool, readings: Sequence[Reading], scale: Scale) -> Combination:
    """Figures of one combination.

    Parameters
    ----------
    provider, precision, is_auto
        Which one.
    readings
        One a round, at least one.
    scale
        What they are held against.
    """
    first, peak = readings[0], scale.peaks.get(precision)
    at_lengths = []
    for place, run in enumerate(first.runs):
        seconds = [second for reading in readings for second in reading.latencies[place].seconds]
        runs = [reading.runs[place] for reading in readings]
        found = _throughput(runs, scale.operations((run.length,)), peak, scale.price)
        at_lengths.append(AtLength(run.length, found, _latency(seconds)))
    samples = [run for reading in readings for run in reading.sample]
    return Combination(
        provider=provider,
        precision=precision,
        is_auto=is_auto,
        error=None,
        runs=first.runs_on,
        why=first.why,
        instances=first.instances,
        threads=first.threads,
        one_minus_cosine=first.one_minus_cosine,
        start_up=_start_up(readings),
        memory=_memory(readings),
        lengths=tuple(at_lengths),
        cells=_throughput(samples, scale.operations(scale.sample), peak, scale.price) if samples else None,
    )


def _throughput(runs: list[Run], operations: float | None, peak: Peak | None, price: float | None) -> Throughput:
    """Figures of runs over the same cells; `operations` is their mean a cell."""
    rate = Spread.of([run.cells / run.seconds for run in runs])
    tflops = None if operations is None else rate.median * operations / 1e12
    joules = [run.joules / run.cells for run in runs if run.joules is not None]
    return Throughput(
        cells_per_second=rate,
        tokens_per_second=statistics.median(run.tokens / run.seconds for run in runs),
        tflops=tflops,
        share=None if tflops is None or peak is None else tflops / peak.tflops,
        joules_per_cell=statistics.median(joules) if joules else None,
        cost_per_million=None if price is None else price * 1e6 / 3600 / rate.median,
    )


def _latency(seconds: list[float]) -> Latency:
    milliseconds = 1e3 * np.array(seconds)
    # With fewer than 100 answers p99 is the slowest of them, not a figure between two.
    p50, p99 = (float(np.percentile(milliseconds, percent, method="higher")) for percent in (50, 99))
    return Latency(p50, p99, len(seconds))


def _start_up(readings: Sequence[Reading]) -> StartUp:
    return StartUp(
        process=Spread.of([reading.process_s for reading in readings]),
        open=Spread.of([reading.open_s for reading in readings]),
        first=Spread.of([reading.first_s for reading in readings]),
        total=Spread.of([reading.process_s + reading.open_s + reading.first_s for reading in readings]),
    )


def _memory(readings: Sequence[Reading]) -> MemoryUse:
    return MemoryUse(
        opened=_middle(reading.opened for reading in readings),
        opening_peak=_most(reading.opening_peak for reading in readings),
        working=_middle(reading.working for reading in readings),
        working_peak=_most(reading.working_peak for reading in readings),
    )


def _middle(sizes: Iterable[int | None]) -> int | None:
    told = [size for size in sizes if size is not None]
    return round(statistics.median(told)) if told else None


def _most(sizes: Iterable[int | None]) -> int | None:
    return max((size for size in sizes if size is not None), default=None)
