"""Charts as inline SVG: horizontal bars with whiskers and marks, and a histogram.

In: numbers and words. Out: text of one ``<svg>``. Colours are classes that the page defines, so that a chart reads in
light and dark. It knows nothing of benchmarks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Bar", "axis_ticks", "bars", "histogram"]

_LABELS, _PLOT, _VALUES = 118, 250, 116
_ROW, _THICK, _TOP, _BELOW = 26, 14, 6, 38


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of a bar chart.

    Attributes
    ----------
    label
        In front of the bar.
    parts
        Lengths of its pieces, from the left; one as a rule.
    told
        The value in words, behind the bar.
    strong
        Whether it stands out.
    whisker
        Lowest and highest of the value.
    mark
        A value of its own, drawn as a line across the bar.
    """

    label: str
    parts: tuple[float, ...]
    told: str
    strong: bool = False
    whisker: tuple[float, float] | None = None
    mark: float | None = None

    @property
    def reach(self) -> float:
        """The rightmost value that is drawn."""
        return max(sum(self.parts), *(self.whisker or (0.0,)), self.mark or 0.0)


def bars(rows: Sequence[Bar], axis: str, title: str) -> str:
    """Horizontal bars over one axis that starts at 0.

    Parameters
    ----------
    rows
        At least one.
    axis
        What the axis shows, with its unit.
    title
        What the chart shows, for readers who cannot see it.
    """
    ticks = axis_ticks(max(row.reach for row in rows))
    bottom = _TOP + _ROW * len(rows)

    def x(value: float) -> float:
        return _LABELS + _PLOT * value / ticks[-1]

    drawn = _axis(ticks, x(0), x(ticks[-1]), bottom, axis)
    for place, row in enumerate(rows):
        y = _TOP + _ROW * place + (_ROW - _THICK) / 2
        middle = y + _THICK / 2
        drawn.append(_text(_LABELS - 8, middle, row.label, "end", "strong" if row.strong else "plain"))
        start = 0.0
        for number, part in enumerate(row.parts):
            tone = f"part{number}" if len(row.parts) > 1 else "main" if row.strong else "other"
            drawn.append(_box(x(start), y, x(start + part) - x(start), _THICK, tone))
            start += part
        if row.whisker is not None:
            low, high = map(x, row.whisker)
            drawn.append(f'<path class="whisker" d="M{low:.1f} {middle:.1f}H{high:.1f}M{low:.1f} {middle - 4:.1f}v8')
            drawn[-1] += f'M{high:.1f} {middle - 4:.1f}v8"/>'
        if row.mark is not None:
            drawn.append(f'<path class="mark" d="M{x(row.mark):.1f} {y - 4:.1f}v{_THICK + 8}"/>')
        drawn.append(_text(x(row.reach) + 7, middle, row.told, "start", "strong" if row.strong else "value"))
    return _svg(_LABELS + _PLOT + _VALUES, bottom + _BELOW, title, drawn)


def histogram(counts: Sequence[int], bin_width: int, axis: str, title: str) -> str:
    """Columns of counts; column i covers values from ``i * bin_width``."""
    left, plot, height = 64, 600, 150
    ticks, most = axis_ticks(len(counts) * bin_width), axis_ticks(max(counts))
    bottom = _TOP + height

    def x(value: float) -> float:
        return left + plot * value / ticks[-1]

    drawn = _axis(ticks, x(0), x(ticks[-1]), bottom, axis)
    for count in most:
        y = bottom - height * count / most[-1]
        drawn.append(_text(left - 8, y, _short(count), "end", "value"))
    for place, count in enumerate(counts):
        tall = height * count / most[-1]
        drawn.append(_box(x(place * bin_width) + 0.5, bottom - tall, plot * bin_width / ticks[-1] - 1, tall, "main"))
    drawn.append(_text(left - 8, bottom + 17, "cells", "end", "value"))
    return _svg(left + plot + 20, bottom + _BELOW, title, drawn)


def axis_ticks(reach: float) -> list[float]:
    """Round numbers from 0 up to the first that is not below `reach`, four to six of them."""
    if reach <= 0:
        return [0.0, 1.0]
    power = 10.0 ** math.floor(math.log10(reach / 4))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor * 5 >= reach)
    return [step * place for place in range(math.ceil(reach / step - 1e-9) + 1)]


def _axis(ticks: Sequence[float], left: float, right: float, bottom: float, label: str) -> list[str]:
    """Grid lines, their numbers, and what they count."""
    drawn = []
    for tick in ticks:
        at = left + (right - left) * tick / ticks[-1]
        drawn.append(f'<path class="{"grid" if tick else "base"}" d="M{at:.1f} {_TOP}V{bottom + 4:.1f}"/>')
        drawn.append(_text(at, bottom + 14, _short(tick), "middle", "value"))
    return [*drawn, _text((left + right) / 2, bottom + 30, label, "middle", "value")]


def _short(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"


def _box(x: float, y: float, width: float, height: float, tone: str) -> str:
    return f'<rect class="{tone}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}"/>'


def _text(x: float, y: float, words: str, anchor: str, tone: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" dominant-baseline="central"'
    return f'<text {place} class="{tone}">{escape(words)}</text>'


def _svg(width: float, height: float, title: str, drawn: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(title, quote=True)}">'
    return "\n".join([head, *drawn, "</svg>"])
