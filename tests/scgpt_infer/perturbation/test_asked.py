"""What people may write: combinations, files of them, sizes of memory."""

import pytest

from scgpt_infer.perturbation import PerturbOptions, read_perturbations
from scgpt_infer.perturbation.asked import combinations, names_of
from scgpt_infer.perturbation.memory import PROCESS_BYTES, cells_in_batch
from scgpt_infer.perturbation.truth import known_perturbations
from scgpt_runtime.errors import OptionError
from scgpt_runtime.vocab import Vocabulary

VOCABULARY = Vocabulary(("A", "B", "HLA-A", "<pad>"), ensembl={"ENSG00000000001": 1})


def test_a_combination_is_one_whatever_the_order_the_name_and_the_repeats():
    found = combinations(("B+A", "A + ENSG00000000001", "A+A+B", "HLA-A", "ctrl+A"), VOCABULARY)
    assert [one.name for one in found] == ["A+B", "HLA-A", "A"]
    assert [one.ids for one in found] == [(0, 1), (2,), (0,)]


def test_an_older_name_is_found_beside_the_name_of_its_gene():
    vocabulary = Vocabulary(("A", "B"), aliases={"OLD": 0})
    found = combinations(("A", "OLD+B", "OLD"), vocabulary, "alias")
    assert [one.name for one in found] == ["A", "A+B"]
    labels, not_askable = known_perturbations(["A", "OLD+B"], vocabulary, "alias")
    assert {label: one.name for label, one in labels.items()} == {"A": "A", "OLD+B": "A+B"}
    assert not_askable == ()


@pytest.mark.parametrize("control", ["", "ctrl", "control", "non-targeting", "ctrl+ctrl"])
def test_words_for_controls_name_no_gene(control):
    assert names_of(control) == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.txt", "perturbation\nA\n\n# a remark\nA+B\nB,HLA-A\n"),
        ("x.csv", 'genes,\nA\n"A",B\nB+HLA-A\n'),
        ("x.json", '["A", "A+B", ["B", "HLA-A"]]'),
        ("x.tsv", "\ufeffA\nA\tB\nB\tHLA-A\n"),
    ],
)
def test_files_of_combinations(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = read_perturbations(tmp_path / name)
    assert [names_of(one) for one in found] == [("A",), ("A", "B"), ("B", "HLA-A")]


@pytest.mark.parametrize(
    ("name", "text"), [("x.json", '{"A": 1}'), ("x.json", "[1]"), ("x.txt", "\n"), ("y.txt", None)]
)
def test_a_file_that_is_no_list_is_told(tmp_path, name, text):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(OptionError, match="one combination a line"):
        read_perturbations(tmp_path / name)


def test_a_batch_grows_with_the_memory_until_more_would_not_help():
    def cells(memory: int | None, instances: int = 1) -> int:
        return cells_in_batch(memory, 100, 1000, 5000, instances, 1000)

    room = PROCESS_BYTES + 5000
    assert cells(None) == 10
    assert [cells(room + 1000 * n) for n in (1, 3, 10, 99)] == [1, 3, 10, 10]
    assert cells(room + 6000, instances=2) == 3
    assert cells_in_batch(None, 5000, 1, 0, 1, 1000) == 1
    with pytest.raises(OptionError, match="One cell of 100 genes takes"):
        cells(room + 999)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"perturbations": ("A",), "cells": 0},
        {"perturbations": ("A",), "values": "raw"},
        {"perturbations": ("A",), "threshold": -1.0},
        {"perturbations": ("A",), "trained": ("A",)},
    ],
)
def test_options_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(OptionError):
        PerturbOptions(**wrong)
