"""A `Record` as a chart: one bar a side, cells a second in steady state, drawn as SVG text.

It needs no plotting library, and looks the same on a light and on a dark page.
"""

from html import escape

from benchmarks.study.record import Entry, Record
from benchmarks.study.table import OURS, ratios

__all__ = ["svg"]

WIDTH, LEFT, RIGHT, TOP, ROW, BAR = 790, 280, 150, 64, 34, 20
INK, FAINT, PAPER = "#1f2933", "#66727f", "#ffffff"
OUR_COLOUR, PEER_COLOUR = "#1b7f5c", "#a9b4bf"
FONT = "font-family='system-ui, sans-serif'"


def svg(record: Record) -> str:
    """The chart. Bars are medians, the thin lines reach from the least to the most of the rounds."""
    entries = [entry for entry in record.entries if entry.runs]
    height = TOP + ROW * len(entries) + 40
    top = max((entry.steady.high for entry in entries), default=1.0)
    scale = (WIDTH - LEFT - RIGHT) / top
    times = ratios(record)
    bars = [_bar(entry, TOP + i * ROW, scale, times) for i, entry in enumerate(entries)]
    settings, machine = record.settings, record.machine
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['date'].split(' ')[0]}"
    return "\n".join(
        [
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' role='img' {FONT}>",
            f"<title>{escape(settings['title'])}</title>",
            f"<rect width='{WIDTH}' height='{height}' rx='8' fill='{PAPER}'/>",
            _text(20, 28, "Cells per second on a CPU, steady state", 17, INK, "600"),
            _text(20, 48, settings["cells"], 12, FAINT),
            *bars,
            _text(20, height - 14, f"{where}. Rounds: {settings['n_rounds']}; bars are medians.", 12, FAINT),
            "</svg>",
            "",
        ]
    )


def _bar(entry: Entry, y: int, scale: float, times: dict[str, tuple[float, float]]) -> str:
    rate = entry.steady
    colour = OUR_COLOUR if entry.ours else PEER_COLOUR
    middle = y + BAR / 2
    note = f"{rate.median:.2f}" if rate.median else "all cells in one batch"
    if rate.median and entry.name in times:
        note += f"  (ours {times[entry.name][1]:.1f} x)"
    return "\n".join(
        [
            _text(LEFT - 10, middle + 4, entry.label, 12, INK, "600" if entry.name == OURS else "400", "end"),
            f"<rect x='{LEFT}' y='{y}' width='{rate.median * scale:.1f}' height='{BAR}' rx='2' fill='{colour}'/>",
            f"<line x1='{LEFT + rate.low * scale:.1f}' x2='{LEFT + rate.high * scale:.1f}' y1='{middle}' y2='{middle}' "
            f"stroke='{INK}'/>",
            _text(LEFT + rate.high * scale + 8, middle + 4, note, 12, INK),
        ]
    )


def _text(x: float, y: float, words: str, size: int, colour: str, weight: str = "400", anchor: str = "start") -> str:
    style = f"font-size='{size}' font-weight='{weight}' fill='{colour}' text-anchor='{anchor}'"
    return f"<text x='{x:.1f}' y='{y:.1f}' {style}>{escape(words)}</text>"
