"""The record of a series as tables for people, and which figures miss their goals.

In: a record as JSON has it. Out: markdown.
"""

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["misses", "page", "tables"]

BEGIN, END = "<!-- tables: python -m benchmarks.serving --table -->", "<!-- end of the tables -->"
"""Where the tables stand in a page."""

SHARE, OVERHEAD_MS, FLAT = 0.9, 5.0, 1.1
"""Goals: share of the engine's own speed, milliseconds added to one cell, growth of memory under load."""

Case = Mapping[str, Any]


def tables(record: Mapping[str, Any]) -> str:
    """A block for each case that was measured."""
    on = "{date}: {processor}, {cores} cores, {memory}, Python {python}".format(**record["machine"])
    cases = record["cases"]
    return "\n\n".join([f"Measured on {on}.", *(_TOLD[name](cases[name]) for name in _TOLD if name in cases)])


def page(text: str, told: str) -> str:
    """A page with the tables in their place."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{told}\n{END}{after}"


def misses(cases: Mapping[str, Case]) -> list[str]:
    """What falls short of a goal, in words."""
    told = []
    if "saturation" in cases and cases["saturation"]["share"] < SHARE:
        told.append(
            f"saturation: {cases['saturation']['share']:.0%} of the engine's own speed; the goal is {SHARE:.0%}."
        )
    if "overhead" in cases and cases["overhead"]["p50_overhead_ms"] > OVERHEAD_MS:
        told.append(f"overhead: {cases['overhead']['p50_overhead_ms']:.1f} ms; the goal is {OVERHEAD_MS:g} ms.")
    for name in ("overload", "crowd"):
        if name in cases:
            odd = {*cases[name]["statuses"]} - {"200", "429"}
            if odd:
                told.append(f"{name}: requests ended with {', '.join(sorted(odd))}; the goal is 200 or 429.")
            if _growth(cases[name]) > FLAT:
                told.append(f"{name}: memory grew by a factor of {_growth(cases[name]):.2f}; the goal is {FLAT}.")
    return told


def _saturation(case: Case) -> str:
    lines = [
        "**At saturation**: 8 connections, 4 cells a request, binary. The engine by itself, then served, in turn.",
        "",
        "| round | engine, cells/s | served, cells/s | engine, CPU ms a cell | seat, ms | front end, ms | load, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for number, (alone, served) in enumerate(zip(case["offline"], case["served"], strict=True), 1):
        alone_ms = 1000 * alone["cpu_seconds"] / (alone["seconds"] * alone["cells_per_second"])
        costs = " | ".join(f"{cost:,.1f}" for cost in (alone_ms, *_costs(served)))
        lines.append(f"| {number} | {alone['cells_per_second']:.2f} | {served['cells_per_second']:.2f} | {costs} |")
    lines += ["", f"That is **{case['share']:.1%}** of the engine's own speed ({case['offline'][0]['told']}), medians."]
    return "\n".join(lines)


def _overhead(case: Case) -> str:
    served, without = case["served"]["answered_ms"], case["without_a_model"]["answered_ms"]
    beside = case["served"]["beside_infer_ms"]
    return (
        f"**One cell at a time**, one connection: the engine takes {case['offline_p50_ms']:.1f} ms (median), a request "
        f"{served['p50']:.1f} ms; the same cell takes **{case['p50_overhead_ms']:.2f} ms** more (median). All of a "
        f"request but the model's own time, as the server tells it, is {beside['p50']:.2f} ms (p50; p99 "
        f"{beside['p99']:.2f} ms), of which a cell waits up to 2 ms for company. With a clock that takes no time in "
        f"the place of the model a request takes {without['p50']:.2f} ms (p99 {without['p99']:.2f} ms)."
    )


def _frontends(case: Case) -> str:
    lines = [
        f"**What front ends carry**: a clock of {case['clock']:,.0f} cells/s in the place of the model, 64 cells a "
        "request. Load, front ends and seat share the cores.",
        "",
        "| form | front ends | cells/s | kB a cell | front end, ms of CPU a cell | cells/s of a core at that | "
        "seat, ms | load, ms | p50, ms | p99, ms |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in case.items():
        if name in ("clock", "load"):
            continue
        form, number = name.rsplit(", ", 1)
        seat, front, load = _costs(one)
        lines.append(
            f"| {form} | {number} | {one['cells_per_second']:,.0f} | {one['request_bytes_per_cell'] / 1000:.1f} | "
            f"{front:.3f} | {1000 / front:,.0f} | {seat:.3f} | {load:.3f} | "
            f"{one['answered_ms']['p50']:.0f} | {one['answered_ms']['p99']:.0f} |"
        )
    return "\n".join(lines)


def _pressed(case: Case, what: str) -> str:
    statuses = ", ".join(f"{count:,} of {status}" for status, count in case["statuses"].items())
    p99 = [value for value in case["p99_ms_of_slices"] if value is not None]
    sizes = [size / 1e6 for _, size in case["memory"]]
    took, refused = case["answered_ms"], case["refused_ms"].get("p50", 0)
    return (
        f"**Twice what it can carry, {what}**, {case['seconds'] / 60:.0f} minutes. It can carry {case['capacity']:.1f} "
        f"cells/s; {case['rate']:.1f} requests/s of one cell came (Poisson), {case['cells_per_second']:.1f} were "
        f"answered. Statuses: {statuses}. Answered requests took {took['p50']:,.0f} ms (p50), "
        f"{took['p99']:,.0f} ms (p99), {took['max']:,.0f} ms at the most, where a queue of "
        f"{case['queue_seconds']:g} s is allowed; the p99 of any 10 s lies between {min(p99):,.0f} and "
        f"{max(p99):,.0f} ms. Refused ones were told in {refused:.1f} ms (p50). Memory of all processes: "
        f"{sizes[0]:,.0f} MB at the start, {sizes[-1]:,.0f} MB at the end, {max(sizes):,.0f} MB at the most."
    )


def _costs(found: Case) -> tuple[float, float, float]:
    """Milliseconds of processor time of a cell: seat, front ends, load."""
    n_cells = found["cells_per_second"] * found["seconds"]
    seat, front = (1000 * found["server_cpu_seconds"][role] / n_cells for role in ("seat", "frontend"))
    return seat, front, 1000 * found["load_cpu_seconds"] / n_cells


def _growth(case: Case) -> float:
    """Memory of the last tenth against that of the second: what fills at first is no leak."""
    sizes = [size for _, size in case["memory"]]
    tenth = max(1, len(sizes) // 10)
    return float(max(sizes[-tenth:]) / max(sizes[tenth : 2 * tenth] or sizes[:1]))


_TOLD: Mapping[str, Callable[[Case], str]] = {
    "saturation": _saturation,
    "overhead": _overhead,
    "frontends": _frontends,
    "overload": lambda case: _pressed(case, "the model of full size"),
    "crowd": lambda case: _pressed(case, "a clock in its place"),
}
