"""The report as one HTML page that stands alone: what it says of `Findings`, and in which words.

In: `Findings`. Out: text. Whatever comes from the file is escaped on its way in.
"""

from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.pages import document
from scgpt_infer.report.colouring import TONES, tones
from scgpt_infer.report.figures import histogram, keys, percent, share_bar, stack, swatch
from scgpt_infer.report.findings import Composition, Findings, LabelFigures
from scgpt_infer.report.origin import origin, quality
from scgpt_infer.report.payload import payload
from scgpt_infer.tasks.annotate import UNKNOWN

__all__ = ["page"]

Counts = NDArray[np.int64]

MOST_GROUPS = 60
"""Samples that a composition shows; the smaller ones are one row."""


def page(found: Findings) -> str:
    """The page."""
    body = [f"<h1>{escape(found.file)}</h1>", *_lead(found), *_map(found), *_types(found)]
    for composition in found.compositions:
        body += _composition(found, composition)
    body += [*quality(found), *origin(found)]
    script = f'(() => {{\n"use strict";\n{_own("plot.js")}{_own("map.js")}}})();\n'
    return document(f"{found.file}: report", body, style=_own("report.css"), script=script)


def _own(name: str) -> str:
    return files("scgpt_infer.report").joinpath(name).read_text(encoding="utf-8")


def _lead(found: Findings) -> Iterator[str]:
    tiles = {"cells": f"{found.n_cells:,}", "have a vector": percent(found.n_embedded / found.n_cells)}
    if found.label is not None:
        tiles |= _label_tiles(found)
    matched = found.record.get("match_fraction")
    if isinstance(matched, float):
        tiles["of genes known"] = percent(matched)
    shown = "".join(f"<li><b>{told}</b><span>{what}</span></li>" for what, told in tiles.items())
    yield f'<ul class="tiles">{shown}</ul>'


def _label_tiles(found: Findings) -> dict[str, str]:
    words = () if found.label is None else found.label.words
    unknown = next((of.cells for of in found.figures if of.name == UNKNOWN), 0)
    tiles = {
        "cell types": f"{sum(word != UNKNOWN for word in words):,}",
        "unknown": percent(unknown / max(sum(of.cells for of in found.figures), 1)),
    }
    sure = np.zeros(0) if found.confidence is None else found.confidence.values
    sure = sure[~np.isnan(sure)]
    return tiles | ({"median confidence": f"{np.median(sure):.2f}"} if sure.size else {})


def _map(found: Findings) -> Iterator[str]:
    cells = found.map
    drawn, what = f"{len(cells.names):,}", "vector" if cells.n_placed == found.n_embedded else "place"
    some = f"All {drawn} cells that have a {what}"
    if len(cells.names) < cells.n_placed:
        some = f"{drawn} of {cells.n_placed:,} cells, spread evenly over the file"
    yield "<h2>Map of the cells</h2>"
    yield (
        f'<p class="note">{some}. Places: {escape(cells.told)}. Cells side by side have similar vectors; how far '
        "apart groups lie, and how large they are, means little.</p>"
    )
    yield _STAGE.format(told=f"Map of {drawn} cells; the tables below tell of their labels in words")
    yield f'<script type="application/json" id="cells">{payload(cells)}</script>'


_STAGE = """<div class="card">
<div class="controls"><label>Colour by <select id="choice"></select></label><span>
<button id="closer" aria-label="Zoom in">+</button> <button id="wider" aria-label="Zoom out">−</button>
<button id="home">Whole map</button></span></div>
<div class="field"><div class="stage">
<canvas id="map" tabindex="0" role="img" aria-label="{told}"></canvas>
<div id="ring" hidden></div><div id="told" hidden></div></div><div id="legend"></div></div>
<p class="note help">Point at a cell to see its name and values. Drag to move; pinch, or click and turn the wheel, to
zoom; keys: arrows, + − 0. Press names in the legend to see their cells alone.</p>
<noscript><p>The map needs JavaScript; nothing else on this page does.</p></noscript></div>"""


def _types(found: Findings) -> Iterator[str]:
    yield "<h2>Cell types</h2>"
    if found.label is None:
        yield '<p class="note">The file has no labels. <code>scgpt-infer annotate</code> gives them.</p>'
        return
    labelled = max(sum(of.cells for of in found.figures), 1)
    below = found.record.get("annotation_unknown_below")
    rule = f" Where the best label is less sure than {below:g}, it is unknown." if isinstance(below, float) else ""
    repeat = f" Colours repeat after {TONES} labels." if len(found.label.words) > TONES else ""
    yield (
        '<p class="note">Confidence is that of the first label, from 0 to 1. Half of a label’s cells lie between its '
        f"quartiles.{rule}{repeat}</p>"
    )
    rows = [
        _type(of, of.cells / labelled, tone) for of, tone in zip(found.figures, tones(found.label.words), strict=True)
    ]
    yield _table(("label", "cells", "share", "", "median confidence", "quartiles", "confidence 0 to 1"), rows)


def _type(of: LabelFigures, share: float, tone: int) -> list[str]:
    """Cells of a table's row."""
    sure = ["", "", ""]
    if of.quartiles is not None:
        low, middle, high = of.quartiles
        drawn = histogram(of.histogram, f"{of.name}: cells by confidence, from 0 to 1")
        sure = [f"{middle:.2f}", f"{low:.2f} to {high:.2f}", drawn]
    return [
        f'<td class="label">{swatch(tone)}{escape(of.name)}</td>',
        f"<td>{of.cells:,}</td>",
        f"<td>{percent(share)}</td>",
        f'<td class="share">{share_bar(share, tone)}</td>',
        *(f"<td>{told}</td>" for told in sure),
    ]


def _composition(found: Findings, composition: Composition) -> Iterator[str]:
    words = () if found.label is None else found.label.words
    named = _groups(composition)
    yield f"<h2>Composition by {escape(composition.column)}</h2>"
    yield '<p class="note">Shares of labels among the labelled cells of each; the number is that of all its cells.</p>'
    yield keys(words, tones(words))
    lines = "".join(_stack(name, cells, words) for name, cells in named)
    yield f'<div class="stacks">{lines}</div>'
    yield "<details><summary>The same as a table</summary>"
    yield _table((composition.column, *words, "no label", "cells"), [_counts(*pair) for pair in named]) + "</details>"


def _stack(name: str, cells: Counts, words: Sequence[str]) -> str:
    labelled = max(int(cells[:-1].sum()), 1)
    shares = [count / labelled for count in cells[:-1].tolist()]
    drawn = stack(list(zip(words, shares, tones(words), strict=True)))
    return f'<span class="name">{escape(name)}</span>{drawn}<span class="cells">{cells.sum():,}</span>'


def _counts(name: str, cells: Counts) -> list[str]:
    labelled = max(int(cells[:-1].sum()), 1)
    told = [f"{count:,} ({percent(count / labelled)})" if count else "0" for count in cells[:-1].tolist()]
    told += [f"{cells[-1]:,}", f"{cells.sum():,}"]
    return [f'<td class="label">{escape(name)}</td>', *(f"<td>{word}</td>" for word in told)]


def _groups(composition: Composition) -> list[tuple[str, Counts]]:
    """Samples and their cells; the smallest ones in one row where there are too many."""
    sizes = composition.cells.sum(axis=1)
    kept = np.sort(np.argsort(-sizes, kind="stable")[:MOST_GROUPS])
    named = [(composition.groups[place] or "none given", composition.cells[place]) for place in kept.tolist()]
    rest = np.setdiff1d(np.arange(len(sizes)), kept)
    return [*named, (f"{len(rest):,} smaller ones", composition.cells[rest].sum(axis=0))] if len(rest) else named


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are HTML under heads that are text."""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'
