"""One provider at one precision, measured in this process: `read` gives a `Reading`.

In: an order of plain values. Out: plain values. It is run in a process of its own, so that start-up and memory are
those of the combination; `scgpt_infer.bench.measure` makes figures of several readings.
"""

import math
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.bench.energy import EnergyMeter, find_meter
from scgpt_infer.bench.lengths import load_tokens, random_tokens
from scgpt_infer.bench.reading import Latencies, Order, Reading, Run
from scgpt_infer.models import open_bundle, usable_cache
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import AnyBatch, CellBlock, Result
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.errors import ProviderError
from scgpt_runtime.golden import Golden
from scgpt_runtime.machine import resident
from scgpt_runtime.proof import worst_of

__all__ = ["latencies", "read", "throughput"]

_MOST_ANSWERS = 1000
_FEWEST_ANSWERS = 5


class Answering(Protocol):
    """What is measured of an engine."""

    def infer(self, batch: AnyBatch) -> dict[str, NDArray[Any]]:
        """Answer one batch in the caller's thread."""
        ...

    def answers(self, stream: Iterable[AnyBatch]) -> Iterator[tuple[AnyBatch, dict[str, NDArray[Any]]]]:
        """Answer batches on all instances, as they finish."""
        ...


def read(order: Order) -> Reading:
    """Open the combination, measure it, close it.

    Raises
    ------
    ScgptInferError
        It cannot run here.
    """
    imported = time.monotonic()
    cache, options = (
        usable_cache(),
        EngineOptions(
            provider=order.provider, precision=order.precision, threads=order.threads, batch_tokens=order.batch_tokens
        ),
    )
    bundle = open_bundle(order.bundle, cache)
    with Engine.open(bundle, options, cache_dir=cache) as engine:
        opened = time.monotonic()
        after_opening = resident(), _most_resident()
        golden = bundle.golden()
        first_s = _first_answer(engine, golden)
        runs, sample = _throughputs(engine, order)
        after_working = resident(), _most_resident()
        worst = _worst(engine, golden) if order.prove else None
        runs_on, choice = engine.provider, engine.choice
    return Reading(
        runs_on=runs_on,
        why=choice.why,
        instances=choice.instances,
        threads=choice.threads,
        one_minus_cosine=worst,
        process_s=imported - order.began,
        open_s=opened - imported,
        first_s=first_s,
        opened=after_opening[0],
        opening_peak=after_opening[1],
        working=after_working[0],
        working_peak=after_working[1],
        runs=runs,
        latencies=_alone(bundle, replace(options, instances=1), cache, order),
        sample=sample,
    )


def throughput(
    engine: Answering, work: Sequence[AnyBatch], n_batches: int, meter: EnergyMeter | None, length: int = 0
) -> Run:
    """Answer `n_batches` batches, taken from `work` again and again, on all instances at once."""
    stream = list(islice(cycle(work), n_batches))
    before = meter.read() if meter else ()
    start = time.perf_counter()
    for _ in engine.answers(stream):
        pass
    seconds = time.perf_counter() - start
    joules = meter.joules(before, meter.read()) if meter else None
    cells = sum(len(batch.lengths) for batch in stream)
    tokens = sum(int(batch.lengths.sum()) for batch in stream)
    return Run(length, cells, tokens, seconds, joules)


def latencies(engine: Answering, cell: AnyBatch, seconds: float) -> tuple[float, ...]:
    """Seconds of each answer to one cell alone, for about `seconds`, after two answers to warm up."""
    engine.infer(cell)
    engine.infer(cell)
    found: list[float] = []
    end = time.perf_counter() + seconds
    while len(found) < _FEWEST_ANSWERS or (time.perf_counter() < end and len(found) < _MOST_ANSWERS):
        start = time.perf_counter()
        engine.infer(cell)
        found.append(time.perf_counter() - start)
    return tuple(found)


def _throughputs(engine: Engine, order: Order) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """A run for each length, and the run over the sample."""
    meter = None if engine.choice.devices else find_meter()[0]  # it counts the processor alone
    instances = engine.choice.instances

    def for_seconds(length: int, work: list[AnyBatch]) -> Run:
        throughput(engine, work, instances, None)  # memory for this length is taken now
        once = throughput(engine, work, instances, None).seconds
        turns = max(2, round(order.seconds / once))  # whole turns: no instance waits for another at the end
        return throughput(engine, work, instances * turns, meter, length)

    runs = tuple(for_seconds(length, _cells_of(engine, length, order.seed, 2 * instances)) for length in order.lengths)
    if order.sample is None:
        return runs, ()
    work = engine.batches(load_tokens(Path(order.sample)))
    first = throughput(engine, work, len(work), None)  # a length that a provider has not seen yet may cost extra
    turns = max(1, round(order.seconds / first.seconds))
    return runs, (throughput(engine, work, len(work) * turns, meter),)


def _cells_of(engine: Engine, length: int, seed: int, n_batches: int) -> list[AnyBatch]:
    """Batches of random cells of one length, filled as the engine fills them."""
    a_batch = max(1, engine.batch_tokens // length)
    tokens = random_tokens(n_batches * a_batch, length, engine.settings, len(engine.vocabulary), seed)
    return engine.batches(tokens)


def _alone(bundle: Bundle, options: EngineOptions, cache: Path, order: Order) -> tuple[Latencies, ...]:
    """Latencies of each length, with one instance that has all cores: what serves a single cell soonest."""
    with Engine.open(bundle, options, cache_dir=cache) as engine:
        return tuple(
            Latencies(length, latencies(engine, _one_cell(engine, length, order.seed), order.seconds))
            for length in order.lengths
        )


def _one_cell(engine: Engine, length: int, seed: int) -> AnyBatch:
    (cell,) = engine.batches(random_tokens(1, length, engine.settings, len(engine.vocabulary), seed))
    return cell


def _first_answer(engine: Engine, golden: Golden) -> float:
    """Seconds from a golden cell's raw values to its vector, the first of this process."""
    lengths = np.diff(golden.indptr)
    middle = int(np.argsort(lengths)[len(lengths) // 2])
    part = slice(golden.indptr[middle], golden.indptr[middle + 1])
    indptr = np.array([0, part.stop - part.start], np.int64)
    start = time.perf_counter()
    _answer(engine, CellBlock(indptr, golden.token_ids[part].astype(np.int32), golden.data[part], 0))
    return time.perf_counter() - start


def _worst(engine: Engine, golden: Golden) -> float:
    (vectors,) = _answer(engine, golden.block()).outputs.values()
    worst = worst_of(golden, vectors)
    if not math.isfinite(worst):
        raise ProviderError(f"{engine.provider} gives golden cells no finite vector in {engine.choice.precision}.")
    return worst


def _answer(engine: Engine, block: CellBlock) -> Result:
    """The engine's answer to cells whose columns are token ids."""
    columns = np.arange(len(engine.vocabulary), dtype=np.int64)
    run: Callable[..., Iterator[Result]] = engine.run
    (result,) = run([block], columns)
    return result


def _most_resident() -> int | None:
    """Most bytes that were resident so far."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        (told,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(told) * 1024
    except (OSError, ValueError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
