"""The page and the table: they stand alone, and they tell what was found."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from scgpt_infer.bench.charts import Bar, axis_ticks, bars, histogram
from scgpt_infer.bench.page import page
from scgpt_infer.bench.table import number, text

_VOID = ("meta", "rect", "path", "br")


class Tags(HTMLParser):
    """Checks that every tag is closed, and keeps what was seen."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict]] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_needs_nothing_from_anywhere(result):
    told = page(result)
    for reference in ("http:", "https:", "//", "url(", "@import", "<script", "<link", "<img", "src=", "href="):
        assert reference not in told, reference


def test_every_tag_is_closed_and_charts_say_what_they_show(result):
    tags = Tags()
    tags.feed(page(result))
    assert tags.open == []
    charts = [attributes for tag, attributes in tags.seen if tag == "svg"]
    assert len(charts) == 2 * 3 + 1 + 2 + 1  # two lengths three times, own cells, memory, start-up, lengths
    assert all(attributes["aria-label"] for attributes in charts)


def test_it_reads_in_light_and_dark(result):
    assert "prefers-color-scheme: dark" in page(result)


def test_the_headline_says_when_another_combination_is_faster(result):
    assert "is the fastest here" not in page(result)
    first, second, *rest = result.combinations
    turned = replace(result, combinations=(replace(first, is_auto=False), replace(second, is_auto=True), *rest))
    assert "openvino bf16 is the fastest here, with 8.00" in page(turned)


def test_names_from_outside_are_escaped(result):
    told = page(result)
    assert "Some <CPU>" not in told
    assert "Some &lt;CPU&gt;" in told


@pytest.mark.parametrize("show", [page, text])
def test_what_did_not_run_says_why(result, show):
    assert "Bundle human has no bf16 graph for embed." in show(result)


@pytest.mark.parametrize("show", [page, text])
def test_figures_and_conditions_are_shown(result, show):
    told = show(result)
    for word in ("4.00", "6.0e-05", "37.75 MFLOP x L + 24,576 x L", "2 of 4 cores", "numpy 2.4.6", result.date):
        assert word in told


def test_a_result_without_figures_still_makes_a_page_and_a_table(result):
    failed = replace(result, combinations=result.combinations[2:], cells=None, peaks=())
    assert "No combination" in page(failed)
    assert "did not run" in text(failed)


@pytest.mark.parametrize("show", [page, text])
def test_a_busy_machine_is_told(result, show):
    assert "busy" not in show(result)
    assert "load average 3.00 at the start: the machine was busy" in show(replace(result, load=3.0))


def test_energy_and_price_have_columns_only_where_they_were_read(result):
    assert "J/cell" in text(result)
    bare = replace(result, energy=replace(result.energy, source=None), settings=replace(result.settings, price=None))
    assert "J/cell" not in text(bare)
    assert "per million" not in text(bare)
    assert result.energy.note in text(bare)


def test_a_bar_is_as_long_as_its_value():
    drawn = bars([Bar("a", (10.0,), "10"), Bar("b", (5.0,), "5", mark=20.0)], "cells", "speed")
    widths = [float(width) for width in re.findall(r'<rect[^>]* width="([\d.]+)"', drawn)]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.1)


def test_histogram_columns_are_as_tall_as_their_counts():
    drawn = histogram((1, 4, 0, 2), 10, "tokens", "lengths")
    heights = [float(height) for height in re.findall(r'<rect[^>]* height="([\d.]+)"', drawn)]
    assert heights[1] == pytest.approx(4 * heights[0], abs=0.2)
    assert heights[2] == 0


@pytest.mark.parametrize("reach", [0, 0.013, 0.9, 1, 4.4, 5, 99, 101, 3686, 1e6])
def test_axes_cover_what_they_show_in_few_round_steps(reach):
    ticks = axis_ticks(reach)
    assert ticks[0] == 0
    assert ticks[-1] >= reach
    assert len(ticks) <= 7
    assert reach == 0 or ticks[-2] < reach


@pytest.mark.parametrize(
    ("value", "told"),
    [(None, "-"), (0, "0"), (3686.4, "3,686"), (113.2, "113"), (7.418, "7.42"), (0.4896, "0.490"), (0.07731, "0.0773")],
)
def test_numbers_keep_three_digits(value, told):
    assert number(value) == told
