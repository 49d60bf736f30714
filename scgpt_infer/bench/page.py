"""A benchmark's result as one HTML page that stands alone: no script, no font, nothing from the network.

In: `BenchResult`. Out: text. What it shows, and in which words; `charts` draws.
"""

from collections.abc import Callable, Iterator, Sequence
from html import escape
from importlib.resources import files

from scgpt_infer.bench.charts import Bar, bars, histogram
from scgpt_infer.bench.result import AtLength, BenchResult, Combination, Throughput
from scgpt_infer.bench.table import bundle_line, load_line, machine_line, number, share, spread, worst
from scgpt_infer.pages import document
from scgpt_infer.sizes import size

__all__ = ["page"]

_GIGA = 1e9


def page(result: BenchResult) -> str:
    """The page."""
    style = files("scgpt_infer.bench").joinpath("style.css").read_text(encoding="utf-8")
    title = f"{result.bundle.name} on {result.machine.processor}, {_count(result.machine.cores_usable, 'core')}"
    ran = [found for found in result.combinations if found.error is None]
    body = [f"<h1>{escape(title)}</h1>", *_lead(result, ran)]
    if ran:
        body += [*_speed(ran), *_compute(result, ran), *_latency(ran), *_process(ran)]
        body += [*_cells(result), *_numbers(result, ran)]
    body += [*_failures(result), *_conditions(result)]
    return document(title, body, style=style)


def _lead(result: BenchResult, ran: Sequence[Combination]) -> Iterator[str]:
    if not ran:
        yield '<p class="lead">No combination of provider and precision ran.</p>'
        return
    shown = next((found for found in ran if found.is_auto), ran[0])
    best, what = _largest(shown)
    rate = best.cells_per_second.median
    told = "is what <code>auto</code> takes here" if shown.is_auto else "was measured first"
    yield (
        f'<p class="lead"><b>{escape(shown.name)}</b> {told}: {number(rate)} cells per second {what}, so a million '
        f"such cells take {_duration(1e6 / rate)}{_price(best)}.</p>"
    )
    others = {found.name: _largest(found)[0].cells_per_second.median for found in ran if found is not shown}
    if others:
        fastest, slowest = max(others, key=lambda name: others[name]), min(others, key=lambda name: others[name])
        told = f"That is {rate / others[slowest]:.1f} times the speed of {escape(slowest)}, the slowest other"
        if others[fastest] > rate:
            told += f"; {escape(fastest)} is the fastest here, with {number(others[fastest])}"
        yield f'<p class="note">{told}.</p>'


def _speed(ran: Sequence[Combination]) -> Iterator[str]:
    yield "<h2>Cells per second</h2>"
    yield (
        '<p class="note">All cores at work on many cells of one length; longer is better. Each panel has its own axis. '
        "Whiskers: lowest and highest round.</p>"
    )

    def row(found: Combination, got: Throughput) -> Bar:
        rate = got.cells_per_second
        whisker = (rate.low, rate.high) if rate.rounds > 1 else None
        return Bar(found.name, (rate.median,), number(rate.median), found.is_auto, whisker)

    own = [row(found, found.cells) for found in ran if found.cells is not None]
    more = [_card("your cells", own, "cells per second")] if own else []
    yield from _panels(ran, "cells per second", lambda found, at: row(found, at.throughput), more)


def _compute(result: BenchResult, ran: Sequence[Combination]) -> Iterator[str]:
    peaks = {(peak.on_gpu, peak.precision): peak for peak in result.peaks}
    if not peaks or result.bundle.operations_per_token is None:
        return
    yield "<h2>Compute rate, and what the machine could do</h2>"
    yield (
        f'<p class="note">Operations of the model per second; {_key("mark", "fastest matrix products")} that were '
        "reached in the same run at that precision. The percentage is the share of it.</p>"
    )

    def row(found: Combination, at: AtLength) -> Bar:
        got, peak = at.throughput, peaks.get((found.on_gpu, found.precision))
        mark = None if peak is None else peak.tflops
        return Bar(
            found.name, (got.tflops or 0,), f"{number(got.tflops)} ({share(got.share)})", found.is_auto, None, mark
        )

    yield from _panels(ran, "TFLOP/s", row)


def _latency(ran: Sequence[Combination]) -> Iterator[str]:
    yield "<h2>One cell alone</h2>"
    yield (
        '<p class="note">Time from a cell’s tokens to its vector with all cores given to it; shorter is better. '
        f"{_key('other', 'median')} {_key('mark', '99th percentile')} (with fewer than 100 answers, the slowest).</p>"
    )

    def row(found: Combination, at: AtLength) -> Bar:
        p50, p99 = at.latency.p50_ms, at.latency.p99_ms
        return Bar(found.name, (p50,), f"{number(p50)} / {number(p99)}", found.is_auto, None, p99)

    yield from _panels(ran, "milliseconds", row)


def _process(ran: Sequence[Combination]) -> Iterator[str]:
    yield '<h2>Memory and start-up</h2>\n<div class="grid">'
    held = [row for found in ran if (row := _held(found)) is not None]
    if held:
        note = f"Proportional set size of the whole process. {_key('mark', 'most that was resident until then')}"
        yield _card("after opening", held, "GB", note)
    started = [row for found in ran if (row := _started(found)) is not None]
    stages = ("Python and imports", "opening the model", "first cell, from raw values to its vector")
    note = "A fresh process. " + " ".join(_key(f"part{place}", told) for place, told in enumerate(stages))
    yield _card("to the first vector", started, "seconds", note) + "</div>"


def _held(found: Combination) -> Bar | None:
    memory = found.memory
    if memory is None or memory.opened is None:
        return None
    mark = None if memory.opening_peak is None else memory.opening_peak / _GIGA
    return Bar(found.name, (memory.opened / _GIGA,), size(memory.opened), found.is_auto, None, mark)


def _started(found: Combination) -> Bar | None:
    if found.start_up is None:
        return None
    stages = (found.start_up.process.median, found.start_up.open.median, found.start_up.first.median)
    return Bar(found.name, stages, f"{sum(stages):.2f} s", found.is_auto)


def _cells(result: BenchResult) -> Iterator[str]:
    cells = result.cells
    if cells is None:
        return
    yield "<h2>Lengths of your cells</h2>"
    yield (
        f'<p class="note">{escape(cells.file)}: {cells.n_cells:,} cells, {cells.n_bad:,} of them without tokens; mean '
        f"{cells.mean:,.0f} tokens, half of them below {cells.quantiles['p50']:,}. Measured with {cells.sampled} of "
        f"them, mean {cells.sampled_mean:,.0f} tokens.</p>"
    )
    drawn = histogram(cells.histogram, cells.bin_width, "tokens of a cell, <cls> counted", "cells by length in tokens")
    yield f'<div class="card">{drawn}</div>'


def _numbers(result: BenchResult, ran: Sequence[Combination]) -> Iterator[str]:
    yield "<h2>All figures</h2>"
    heads = ["", "1 - cosine", "tokens", "cells/s", "tokens/s", "TFLOP/s", "of peak", "p50 ms", "p99 ms"]
    energy, price = result.energy.source is not None, result.settings.price is not None
    heads += ["J a cell"] * energy + ["cost a million"] * price
    rows = []
    for found in ran:
        for at in found.lengths:
            first = [found.name, worst(found)] if at is found.lengths[0] else ["", ""]
            latency = [number(at.latency.p50_ms), number(at.latency.p99_ms)]
            rows.append([*first, f"{at.length:,}", *_cells_of(at.throughput, latency, energy, price)])
        if found.cells is not None:
            rows.append(["", "", "yours", *_cells_of(found.cells, ["-", "-"], energy, price)])
    yield _table(heads, rows)
    yield (
        '<p class="note">1 - cosine: the golden cell of the bundle that is furthest from its fp32 reference vector. '
        "Figures in brackets: lowest and highest round.</p>"
    )
    layout = [[found.name, f"{found.instances} x {found.threads}", found.runs, found.why] for found in ran]
    yield _table(["", "instances x threads", "ran with", "because"], layout)


def _cells_of(found: Throughput, latency: list[str], energy: bool, price: bool) -> list[str]:
    told = [spread(found.cells_per_second), f"{found.tokens_per_second:,.0f}", number(found.tflops), share(found.share)]
    return [
        *told,
        *latency,
        *[number(found.joules_per_cell)] * energy,
        *[number(found.cost_per_million)] * price,
    ]


def _failures(result: BenchResult) -> Iterator[str]:
    failed = [found for found in result.combinations if found.error is not None]
    if failed:
        yield "<h2>What did not run</h2><dl>"
        for found in failed:
            yield f"<dt>{escape(found.name)}</dt><dd>{escape(found.error or '')}</dd>"
        yield "</dl>"


def _conditions(result: BenchResult) -> Iterator[str]:
    settings = result.settings
    peaks = "; ".join(f"{peak.precision} {number(peak.tflops)} TFLOP/s with {peak.by}" for peak in result.peaks)
    software = ", ".join(f"{name} {version}" for name, version in result.machine.versions.items())
    energy = result.energy
    facts = {
        "Machine": machine_line(result),
        "System": f"{result.machine.system}; Python {result.machine.python}",
        "Software": software,
        "Model": f"{bundle_line(result)}; weights {result.bundle.weights[:16]}",
        "Peak": peaks or "none measured",
        "Other work": load_line(result),
        "Energy": energy.note if energy.source is None else f"{energy.source}: {energy.note}",
        "Measured": f"{result.date}; {_count(settings.rounds, 'round')}, {settings.seconds:g} s a figure, "
        f"{_count(settings.threads, 'thread')}, seed {settings.seed}; medians of the rounds",
    }
    yield "<h2>Conditions</h2><dl>"
    for name, told in facts.items():
        yield f"<dt>{name}</dt><dd>{escape(told)}</dd>"
    yield f"<dt>Command</dt><dd><code>{escape(result.command)}</code></dd></dl>"


def _panels(
    ran: Sequence[Combination], axis: str, row: Callable[[Combination, AtLength], Bar], more: Sequence[str] = ()
) -> Iterator[str]:
    """A card for each length, with a row for each combination, and more cards behind them."""
    yield '<div class="grid">'
    for place, at in enumerate(ran[0].lengths):
        yield _card(f"{at.length:,} tokens", [row(found, found.lengths[place]) for found in ran], axis)
    yield from more
    yield "</div>"


def _card(title: str, rows: Sequence[Bar], axis: str, note: str = "") -> str:
    drawn = bars(rows, axis, f"{title}: {axis}")
    told = f'<p class="note">{note}</p>' if note else ""
    return f'<div class="card"><h3>{escape(title)}</h3>\n{drawn}\n{told}</div>'


def _key(tone: str, told: str) -> str:
    """An entry of a legend."""
    return f'<span class="entry"><span class="key {tone}"></span>{told}</span>'


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    told = []
    for row in rows:
        tone = ' class="first"' if row[0] else ""
        told.append(f"<tr{tone}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>")
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{chr(10).join(told)}\n</tbody></table></div>'
    )


def _largest(found: Combination) -> tuple[Throughput, str]:
    """The figures that say most: of the user's cells, else of the longest ones; and what they are of."""
    if found.cells is not None:
        return found.cells, "on your cells"
    at = found.lengths[-1]
    return at.throughput, f"on cells of {at.length:,} tokens"


def _price(found: Throughput) -> str:
    return "" if found.cost_per_million is None else f" and cost {number(found.cost_per_million)}"


def _duration(seconds: float) -> str:
    if seconds < 5400:
        return f"{max(1, round(seconds / 60))} minutes"
    return f"{seconds / 3600:.0f} hours" if seconds < 3 * 86400 else f"{seconds / 86400:.1f} days"


def _count(number_of: int, noun: str) -> str:
    return f"{number_of} {noun}{'s' * (number_of != 1)}"
