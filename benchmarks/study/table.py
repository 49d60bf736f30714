"""A `Record` as a short text in Markdown: the table, the ratios, the conditions.

It computes ratios of medians and nothing else.
"""

from math import isnan

from benchmarks.study.figures import Likeness, Spread
from benchmarks.study.record import Entry, Record

__all__ = ["OURS", "TARGETS", "markdown", "missed", "ratios"]

OURS = "ours"
"""Name of the side that is compared with the others: what a user gets who asks for nothing."""

TARGETS = {"original": 12.0, "original-tuned": 5.0, "torch-bf16": 1.5}
"""How many times faster end to end we aim to be, on processors with bf16 or int8 instructions."""

LIKE = 0.999
"""Least cosine to fp32 that counts."""


def ratios(record: Record) -> dict[str, tuple[float, float]]:
    """Peer to how many times faster our side is, end to end and in steady state."""
    ours = record.entry(OURS)
    if ours is None:
        return {}
    return {
        peer.name: (peer.whole.median / ours.whole.median, _over(ours.steady.median, peer.steady.median))
        for peer in record.entries
        if peer.runs and not peer.ours
    }


def _over(ours: float, peer: float) -> float:
    """A ratio; NaN where the peer had no steady state, all its cells being one batch."""
    return ours / peer if peer else float("nan")


def missed(record: Record) -> list[str]:
    """What we aim at and this record does not show, in words."""
    ours = record.entry(OURS)
    if ours is None:
        return [f"the side {OURS} did not run"]
    found = ratios(record)
    slow = [
        f"{times:g} x {name} end to end: {found[name][0]:.2f} x" if name in found else f"{name} did not run"
        for name, times in TARGETS.items()
        if name not in found or found[name][0] < times
    ]
    if ours.likeness is None or not ours.likeness.worst >= LIKE:
        slow.append(f"a cosine of {LIKE} to fp32: {ours.likeness}")
    return slow


def markdown(record: Record) -> str:
    """The whole text."""
    parts = [_conditions(record), _table(record), _ratios(record), _parity(record), _long(record), _failed(record)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _conditions(record: Record) -> str:
    machine, settings = record.machine, record.settings
    peak = ", ".join(f"{name} {value:.2f}" for name, value in record.peak.items())
    versions = ", ".join(f"{name} {machine[name]}" for name in ("python", "torch", "onnxruntime", "openvino"))
    measured = [machine["processor"], f"{machine['cores']} cores", machine["memory"], machine["instructions"]]
    return "\n".join(
        [
            f"# {settings['title']}",
            "",
            f"{settings['cells']}. {settings['lengths']}. {settings['rounds']}.",
            "",
            f"Measured on {machine['date']}: {', '.join(measured)}. "
            f"Peak of matrix products in PyTorch, TFLOP/s: {peak}. Versions: {versions}.",
        ]
    )


def _table(record: Record) -> str:
    lines = [
        "| side | rounds | end to end, s | start-up, s | steady, cells/s | cosine to fp32: least, median | GB |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_row(entry) for entry in record.entries if entry.runs]
    return "\n".join(
        [
            *lines,
            "",
            "Median of the rounds (least to most). Start-up: process start to first answer. Steady: the other cells",
            "over the rest of the time, output written. Loading the original's vocabulary is not counted. Memory: the",
            "largest process.",
        ]
    )


def _row(entry: Entry) -> str:
    cells = [
        entry.label,
        str(len(entry.runs)),
        _spread(entry.whole, 1),
        _spread(entry.start, 1),
        _spread(entry.steady, 2),
        _cosines(entry.likeness),
        f"{entry.peak_bytes / 1e9:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def _spread(found: Spread, digits: int) -> str:
    if not found.median:
        return "-"
    if found.low == found.high:
        return f"{found.median:.{digits}f}"
    return f"{found.median:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"


def _cosines(found: Likeness | None) -> str:
    return "not measured" if found is None else f"{found.worst:.6f}, {found.median:.6f}"


def _ratios(record: Record) -> str:
    found = ratios(record)
    if not found:
        return ""
    lines = ["| scgpt-infer (auto) against | end to end | steady state | aimed at, end to end |", "|---|---|---|---|"]
    for entry in record.entries:
        if entry.name in found:
            whole, steady = found[entry.name]
            aim = f"{TARGETS[entry.name]:g} x" if entry.name in TARGETS else ""
            lines.append(f"| {entry.label} | {whole:.1f} x | {_times(steady)} | {aim} |")
    return "\n".join(lines)


def _times(found: float) -> str:
    return "-" if isnan(found) else f"{found:.1f} x"


def _parity(record: Record) -> str:
    rows = [
        f"| {entry.label} | {entry.parity.largest:.1e} | {1 - entry.parity.worst:.1e} |"
        for entry in record.entries
        if entry.parity is not None
    ]
    if not rows:
        return ""
    head = [
        "On the tokens that the original drew itself, against what it answered:",
        "",
        "| side | largest difference of an entry of the unit vector | largest 1 - cosine |",
        "|---|---|---|",
    ]
    return "\n".join([*head, *rows])


def _long(record: Record) -> str:
    rows = [
        f"| {found.label} | {_spread(found.rate, 2)} | {found.tflops:.3f} | "
        f"{100 * found.share:.0f} % of {found.precision} |"
        for found in record.long
    ]
    if not rows:
        return ""
    head = [
        f"{record.settings['long']}:",
        "",
        "| side | cells/s | TFLOP/s | share of the peak of matrix products |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *rows])


def _failed(record: Record) -> str:
    return "\n".join(f"Not run: {entry.label}: {entry.reason}" for entry in record.entries if not entry.runs)
