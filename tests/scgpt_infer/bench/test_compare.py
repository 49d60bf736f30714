"""Two results side by side."""

import copy
import json

import pytest

from scgpt_infer.bench.compare import compare, load
from scgpt_runtime.errors import OptionError


@pytest.fixture
def plain(result):
    return json.loads(result.to_json())


def ratio(found, combination: str, tokens: str, measure: str):
    (row,) = [
        row for row in found.ratios if (row.combination, row.tokens, row.measure) == (combination, tokens, measure)
    ]
    return row


def test_a_result_and_itself_differ_in_nothing(plain):
    found = compare(plain, plain)
    assert found.warnings == ()
    assert {row.ratio for row in found.ratios} == {1.0}


def test_a_ratio_is_b_over_a(plain):
    faster = copy.deepcopy(plain)
    for figure in ("median", "low", "high"):
        faster["combinations"][0]["lengths"][1]["throughput"]["cells_per_second"][figure] *= 2
    row = ratio(compare(plain, faster), "openvino bf16", "1,200", "cells/s")
    assert (row.a, row.b, row.ratio) == (4.0, 8.0, 2.0)
    assert row.clear
    assert ratio(compare(faster, plain), "openvino bf16", "1,200", "cells/s").ratio == 0.5


def test_rounds_that_overlap_are_no_clear_difference(plain):
    other = copy.deepcopy(plain)
    other["combinations"][0]["lengths"][1]["throughput"]["cells_per_second"]["median"] = 4.5
    found = compare(plain, other)
    assert ratio(found, "openvino bf16", "1,200", "cells/s").clear is False
    assert "rounds overlap" in found.text()


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [("machine", "processor", "another"), ("bundle", "weights", "cd" * 32), ("machine", "versions", {"numpy": "1"})],
)
def test_what_makes_two_results_incomparable_is_said(plain, section, name, value):
    other = copy.deepcopy(plain)
    other[section][name] = value
    (warning,) = compare(plain, other).warnings
    assert warning.startswith(f"{section}: {name} is ")


def test_a_combination_of_one_result_alone_is_said(plain):
    other = copy.deepcopy(plain)
    other["combinations"] = other["combinations"][:1]
    assert compare(plain, other).warnings == ("cpu fp32 has figures in A alone",)


def test_nothing_in_common_is_an_error(plain):
    other = copy.deepcopy(plain)
    other["combinations"] = []
    with pytest.raises(OptionError, match="share no figure"):
        compare(plain, other)


@pytest.mark.parametrize("text", ["no json", "[]", '{"format": 1}'])
def test_what_is_no_result_is_refused(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(OptionError, match=r"a\.json is not"):
        load(path)


def test_a_newer_format_is_refused(plain, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(plain | {"format": 2}))
    with pytest.raises(OptionError, match="format 2"):
        load(path)
