"""Small figures as HTML: swatches, shares, stacked shares and histograms, each readable without its colour.

In: numbers and words. Out: HTML in which words are escaped. Colours are variables that the style sheet defines.
"""

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["histogram", "keys", "percent", "share_bar", "stack", "swatch"]


def percent(share: float) -> str:
    """A share as ``12.3 %``; what is there but would be rounded away is ``< 0.1 %``."""
    return "< 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def colour(tone: int) -> str:
    """The style sheet's colour of a number that `scgpt_infer.report.colouring.tones` gave."""
    return f"var(--{'unknown' if tone < 0 else f'c{tone}'})"


def swatch(tone: int) -> str:
    """A dot of colour, for a legend or in front of a name."""
    return f'<span class="swatch" style="background:{colour(tone)}"></span>'


def keys(words: Iterable[str], tones: Iterable[int]) -> str:
    """A legend."""
    entries = "".join(f"<li>{swatch(tone)}{escape(word)}</li>" for word, tone in zip(words, tones, strict=True))
    return f'<ul class="keys">{entries}</ul>'


def share_bar(share: float, tone: int) -> str:
    """A bar of a share of the whole."""
    return f'<span class="track"><i style="width:{100 * share:.2f}%;background:{colour(tone)}"></i></span>'


def stack(shares: Sequence[tuple[str, float, int]]) -> str:
    """Shares of one whole side by side: word, share and colour of each."""
    pieces = "".join(_piece(f"{word}: {percent(share)}", share, tone) for word, share, tone in shares if share)
    return f'<span class="stack" aria-hidden="true">{pieces}</span>'


def histogram(counts: Sequence[int], told: str) -> str:
    """Columns of counts, the tallest as high as the figure; `told` says what they show."""
    most = max(counts) or 1
    columns = "".join(
        f'<rect x="{place + 0.1:.1f}" y="{10 - 10 * count / most:.2f}" width="0.8" height="{10 * count / most:.2f}"/>'
        for place, count in enumerate(counts)
        if count
    )
    return (
        f'<svg class="bins" viewBox="0 0 {len(counts)} 10.4" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(told)}">{columns}<path d="M0 10.2H{len(counts)}" stroke-width=".4"/></svg>'
    )


def _piece(told: str, share: float, tone: int) -> str:
    return f'<i style="width:{100 * share:.3f}%;background:{colour(tone)}" title="{escape(told)}"></i>'
