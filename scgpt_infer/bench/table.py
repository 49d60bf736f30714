"""A benchmark's result as text for a terminal: one block a combination, one line a length.

In: `BenchResult`. Out: text. It measures nothing and prints nothing.
"""

from collections.abc import Iterator

from scgpt_infer.bench.result import BenchResult, Combination, MemoryUse, Spread, Throughput
from scgpt_infer.sizes import size

__all__ = ["bundle_line", "load_line", "machine_line", "number", "share", "spread", "text", "worst"]

_ABSENT = "-"
_BUSY = 0.25
"""Load average a core from which on other work is worth a warning."""


def text(result: BenchResult) -> str:
    """The whole result."""
    lines = [*_head(result), "", *_speeds(result), "", *_others(result)]
    failed = [found for found in result.combinations if found.error is not None]
    if failed:
        lines += ["", *(f"{found.name} did not run: {_one_line(found.error)}" for found in failed)]
    return "\n".join(lines)


def machine_line(result: BenchResult) -> str:
    """The machine in one line."""
    machine = result.machine
    features = f" ({', '.join(machine.features)})" if machine.features else ""
    memory = "" if machine.memory is None else f", {size(machine.memory)} of memory"
    gpus = "".join(f"; {name}" for name in machine.gpus)
    return f"{machine.processor}{features}, {machine.cores_usable} of {machine.cores_host} cores{memory}{gpus}"


def bundle_line(result: BenchResult) -> str:
    """The model in one line."""
    bundle = result.bundle
    layers = "" if bundle.layers is None else f"{bundle.layers} layers, "
    work = ""
    if bundle.operations_per_token is not None and bundle.operations_per_pair is not None:
        token, pair = bundle.operations_per_token, bundle.operations_per_pair
        work = f"; a cell of L tokens is {token / 1e6:,.2f} MFLOP x L + {pair:,} x L²"
    return f"{bundle.name}: {layers}{bundle.width} wide, up to {bundle.max_length:,} tokens{work}"


def load_line(result: BenchResult) -> str:
    """What else the machine did."""
    if result.load is None:
        return "not known"
    told = f"load average {result.load:.2f} at the start"
    busy = result.load > _BUSY * result.machine.cores_host
    return f"{told}: the machine was busy, so figures may be too low" if busy else told


def worst(found: Combination) -> str:
    """Accuracy of a combination: 1 - cosine of its worst golden cell."""
    return _ABSENT if found.one_minus_cosine is None else f"{found.one_minus_cosine:.1e}"


def number(value: float | None, digits: int = 3) -> str:
    """A figure to about so many digits that count; ``-`` where there is none."""
    if value is None:
        return _ABSENT
    if value == 0:
        return "0"
    for decimals in range(digits):
        if abs(value) >= 10 ** (digits - 1 - decimals):
            return f"{value:,.{decimals}f}"
    return f"{value:.{digits}f}" if abs(value) >= 0.1 else f"{value:.{digits}g}"


def spread(found: Spread) -> str:
    """A median, with lowest and highest where there were several rounds."""
    if found.rounds == 1:
        return number(found.median)
    return f"{number(found.median)} ({number(found.low)}-{number(found.high)})"


def share(value: float | None) -> str:
    """A share as percent."""
    return _ABSENT if value is None else f"{value:.0%}"


def _head(result: BenchResult) -> Iterator[str]:
    settings = result.settings
    yield f"machine     {machine_line(result)}"
    yield f"software    {', '.join(f'{name} {version}' for name, version in result.machine.versions.items())}"
    yield f"model       {bundle_line(result)}"
    rounds = "1 round" if settings.rounds == 1 else f"{settings.rounds} rounds, median (lowest-highest)"
    yield f"measured    {result.date}; {rounds}; {settings.seconds:g} s a figure"
    peaks = "; ".join(f"{peak.precision} {number(peak.tflops)} TFLOP/s (by {peak.by})" for peak in result.peaks)
    yield f"peak        matrix products in the same run: {peaks or 'none measured'}"
    if result.cells is not None:
        cells = result.cells
        yield (
            f"cells       {cells.file}: {cells.n_cells:,} cells, mean {cells.mean:,.0f} tokens, median "
            f"{cells.quantiles['p50']:,}, 90 % from {cells.quantiles['p5']:,} to {cells.quantiles['p95']:,}; "
            f"{cells.sampled} of them measured, mean {cells.sampled_mean:,.0f}"
        )
    yield f"other work  {load_line(result)}"
    yield f"energy      {result.energy.note if result.energy.source is None else result.energy.source}"


def _speeds(result: BenchResult) -> Iterator[str]:
    yield (
        f"{'':<16} {'1-cosine':>8}  {'tokens':>6}  {'cells/s':>20}  {'tokens/s':>9}  {'TFLOP/s':>7}  {'of peak':>7}"
        f"  {'p50 ms':>7}  {'p99 ms':>7}{_extra_heads(result)}"
    )
    for found in (found for found in result.combinations if found.error is None):
        name, accuracy = found.name + (" *" if found.is_auto else ""), worst(found)
        for at in found.lengths:
            latency = f"{number(at.latency.p50_ms):>7}  {number(at.latency.p99_ms):>7}"
            yield f"{name:<16} {accuracy:>8}  {at.length:>6,}  {_throughput(at.throughput, latency, result)}"
            name = accuracy = ""
        if found.cells is not None:
            latency = f"{_ABSENT:>7}  {_ABSENT:>7}"
            yield f"{name:<16} {accuracy:>8}  {'yours':>6}  {_throughput(found.cells, latency, result)}"
    yield "* what auto takes here; 1-cosine: worst golden cell to its fp32 reference; p50 and p99: one cell alone"


def _extra_heads(result: BenchResult) -> str:
    joules = f"  {'J/cell':>7}" if result.energy.source else ""
    return joules + (f"  {'per million':>11}" if result.settings.price is not None else "")


def _throughput(found: Throughput, latency: str, result: BenchResult) -> str:
    joules = f"  {number(found.joules_per_cell):>7}" if result.energy.source else ""
    price = f"  {number(found.cost_per_million):>11}" if result.settings.price is not None else ""
    return (
        f"{spread(found.cells_per_second):>20}  {found.tokens_per_second:>9,.0f}  {number(found.tflops):>7}"
        f"  {share(found.share):>7}  {latency}{joules}{price}"
    )


def _others(result: BenchResult) -> Iterator[str]:
    yield (
        f"{'':<16} {'instances':>9}  {'imports':>7}  {'open':>6}  {'first':>6}  {'memory':>8}"
        f"  {'at work':>8}  {'peak':>8}"
    )
    for found in (found for found in result.combinations if found.error is None):
        yield f"{found.name:<16} {_started(found)}  {_memory(found.memory)}"
    yield "imports, open, first: seconds to import, to open, to answer a first cell"
    yield "memory: after opening, with all instances at work, and the most that was resident"


def _started(found: Combination) -> str:
    layout = f"{found.instances} x {found.threads}"
    if found.start_up is None:
        return f"{layout:>9}"
    stages = found.start_up
    imports, opening, first = stages.process.median, stages.open.median, stages.first.median
    return f"{layout:>9}  {imports:>7.2f}  {opening:>6.2f}  {first:>6.2f}"


def _memory(found: MemoryUse | None) -> str:
    told = (None, None, None) if found is None else (found.opened, found.working, found.working_peak)
    return "  ".join(f"{_ABSENT if held is None else size(held):>8}" for held in told)


def _one_line(reason: str | None) -> str:
    return " ".join((reason or "").split())
