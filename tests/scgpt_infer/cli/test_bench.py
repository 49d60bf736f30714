"""``scgpt-infer bench`` as people type it."""

import json
from importlib.resources import files

import jsonschema
import pytest

from scgpt_infer import cli

QUICK = ("--rounds", "1", "--seconds", "0.01", "--provider", "cpu", "--precision", "fp32", "--threads", "1")


@pytest.fixture(scope="module")
def measured(tmp_path_factory, toy_model):
    folder = tmp_path_factory.mktemp("bench")
    told, page = folder / "a.json", folder / "a.html"
    words = ["bench", "-m", str(toy_model), *QUICK, "--lengths", "24,5", "--json", str(told), "--html", str(page)]
    assert cli.run(words) == 0
    return told, page


def test_a_real_run_gives_a_valid_result_and_a_page(measured):
    told, page = measured
    result = json.loads(told.read_text())
    jsonschema.validate(result, json.loads(files("scgpt_infer.bench").joinpath("schema.json").read_text()))
    (found,) = result["combinations"]
    assert found["error"] is None
    assert [at["length"] for at in found["lengths"]] == [5, 24]
    assert found["one_minus_cosine"] < 1e-6
    assert result["peaks"][0]["precision"] == "fp32"
    assert page.read_text().startswith("<!doctype html>")


def test_two_results_are_compared(measured, capsys):
    told, _ = measured
    assert cli.run(["bench", "--compare", str(told), str(told)]) == 0
    assert "cells/s" in capsys.readouterr().out
    assert cli.run(["bench", "--compare", str(told), str(told), "--json", "-"]) == 0
    ratios = json.loads(capsys.readouterr().out)["ratios"]
    assert {row["ratio"] for row in ratios} == {1.0}


def test_a_combination_that_was_asked_for_and_cannot_run_ends_with_2_where_nothing_else_ran(toy_model, capsys):
    words = ["bench", "-m", str(toy_model), "--provider", "cpu", "--precision", "int8", "--rounds", "1", "--json", "-"]
    assert cli.run(words) == 2
    (found,) = json.loads(capsys.readouterr().out)["combinations"]
    assert "no int8 graph" in found["error"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["bench"], "give --model"),
        (["bench", "-m", "demo", "--lengths", "64,long"], "no list of whole numbers"),
        (["bench", "-m", "demo", "--lengths", "64,601"], "A length is 601"),
        (["bench", "-m", "demo", "--precision", "fp64"], "'fp64' is none of"),
        (["bench", "-m", "demo", "--html", "/nowhere/at/all.html"], "There is no folder /nowhere/at"),
        (["bench", "--compare", "a.json"], "--compare"),
    ],
)
def test_wrong_words_are_usage_errors(words, told, capsys):
    assert cli.run(words) == 2
    assert told in capsys.readouterr().err
