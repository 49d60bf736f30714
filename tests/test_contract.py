"""Same cell, same vector: the demo's real cells, run in every way, with every provider and precision."""

import pytest

from benchmarks.contract import LIMITS, WAYS, arithmetics, load, measure
from scgpt_infer import demo
from scgpt_infer.models import open_bundle

SEALED = ("fp32", "fp16", "int8")
ARITHMETICS = arithmetics(open_bundle("demo", None))


@pytest.fixture(scope="module")
def loaded():
    return load("demo", demo.CELLS, 250)


def test_both_providers_of_a_processor_are_held_to_it():
    assert {"cpu fp32", "cpu fp16", "cpu int8", "openvino fp32"} <= set(ARITHMETICS)


def test_the_demo_seals_every_precision(loaded):
    assert set(loaded[0].manifest.precisions) == set(SEALED)


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_every_way_gives_the_same_vectors(loaded, arithmetic):
    figures = measure(*loaded, arithmetic)
    assert [figure.way for figure in figures] == [way.name for way in WAYS]
    assert {figure.limit for figure in figures} == {0.0, LIMITS[arithmetic.split()[1]]}
    outside = [figure for figure in figures if not figure.worst <= figure.limit]
    assert not outside


def test_a_difference_would_be_seen(loaded):
    """The measure itself: cells whose values are changed are told apart."""
    from dataclasses import replace

    from benchmarks.contract import _again, _difference, _ranges, _run

    bundle, cells, columns = loaded
    plain = _run(bundle, "cpu fp32", _ranges(cells), columns)
    other = cells.data.copy()
    other[0] += 50
    assert _difference(_again(bundle, "cpu fp32", replace(cells, data=other), columns), plain, exact=True) > 1e-5
