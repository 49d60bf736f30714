"""Same cell, same vector: the demo's real cells, run in every way, at every sealed precision."""

import pytest

from benchmarks.contract import LIMITS, WAYS, load, measure
from scgpt_infer import demo

PRECISIONS = ("fp32", "fp16", "int8")


@pytest.fixture(scope="module")
def loaded():
    return load("demo", demo.CELLS, 250)


def test_the_demo_seals_every_precision(loaded):
    assert set(loaded[0].manifest.precisions) == set(PRECISIONS)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_way_gives_the_same_vectors(loaded, precision):
    figures = measure(*loaded, precision)
    assert [figure.way for figure in figures] == [way.name for way in WAYS]
    assert {figure.limit for figure in figures} == {0.0, LIMITS[precision]}
    outside = [figure for figure in figures if not figure.worst <= figure.limit]
    assert not outside


def test_a_difference_would_be_seen(loaded):
    """The measure itself: cells whose values are changed are told apart."""
    from dataclasses import replace

    from benchmarks.contract import _again, _difference, _ranges, _run

    bundle, cells, columns = loaded
    plain = _run(bundle, "fp32", _ranges(cells), columns)
    other = cells.data.copy()
    other[0] += 50
    assert _difference(_again(bundle, "fp32", replace(cells, data=other), columns), plain, exact=True) > 1e-5
