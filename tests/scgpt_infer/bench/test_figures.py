"""Readings become figures: rates, shares, prices, spreads."""

import json
from importlib.resources import files

import jsonschema
import pytest


def at(result, place: int, length: int):
    return next(found for found in result.combinations[place].lengths if found.length == length)


def test_rates_are_medians_of_rounds_with_lowest_and_highest(result):
    rate = at(result, 0, 1200).throughput.cells_per_second
    assert (rate.median, rate.low, rate.high, rate.rounds) == (4.0, pytest.approx(3.2), 5.0, 3)
    assert at(result, 0, 1200).throughput.tokens_per_second == 4800


def test_operations_and_their_share_follow_from_the_rate(result):
    found = at(result, 0, 1200).throughput
    assert found.tflops == pytest.approx(4 * (37_748_736 * 1200 + 24_576 * 1200**2) / 1e12)
    assert found.share == pytest.approx(found.tflops / 0.5)


def test_without_a_peak_of_its_precision_a_combination_has_no_share(result):
    found = at(result, 1, 1200).throughput
    assert found.tflops is not None
    assert found.share is None


def test_price_and_energy_are_by_cell(result):
    found = at(result, 0, 1200).throughput
    assert found.cost_per_million == pytest.approx(0.36 / 3600 / 4 * 1e6)
    assert found.joules_per_cell == pytest.approx(40 / 8)
    assert at(result, 1, 1200).throughput.joules_per_cell is None


def test_p99_of_few_answers_is_the_slowest_one_seen(result):
    latency = at(result, 0, 1200).latency
    assert latency.answers == 30
    assert latency.p50_ms == pytest.approx(100)
    assert latency.p99_ms == pytest.approx(500)  # of the slowest round


def test_start_up_adds_up_and_the_peak_is_the_highest_round(result):
    found = result.combinations[0]
    assert found.start_up.total.median == pytest.approx(0.5 + 1.0 + 0.25)
    assert (found.memory.opened, found.memory.opening_peak) == (600_000_000, 900_000_000)


def test_the_user_s_cells_have_figures_of_their_own(result):
    found = result.combinations[0].cells
    assert found.cells_per_second.median == 8
    assert found.tflops == pytest.approx(8 * (37_748_736 * 700 + 24_576 * 700**2) / 1e12)


def test_the_json_is_what_its_schema_says(result):
    schema = json.loads(files("scgpt_infer.bench").joinpath("schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    plain = json.loads(result.to_json())
    jsonschema.validate(plain, schema)
    plain["machine"]["host"] = "name"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(plain, schema)
