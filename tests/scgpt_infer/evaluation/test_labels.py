"""Figures of told labels, on cases small enough to count by hand and against scikit-learn on larger ones."""

import importlib
import json

import numpy as np
import pytest
from sklearn import metrics

from scgpt_infer.evaluation import Confusion, Kept, Unanswerable, evaluate
from scgpt_infer.judging import OTHER
from scgpt_runtime.errors import MissingDependencyError, OptionError

TRUE = ["B", "B", "B", "B", "T", "T", "NK", "", "unknown"]
TOLD = ["B", "B", "T", "unknown", "T", "T", "B", "B", "T"]
LABELS = ("B", "NK", "T")


def test_figures_by_hand():
    found = evaluate(TRUE, TOLD, labels=LABELS)
    assert (found.cells, found.without_truth, found.judged) == (9, 2, 7)
    assert found.accuracy == found.accuracy_of_all == pytest.approx(4 / 7)
    assert found.unknown == pytest.approx(1 / 7)
    assert found.accuracy_of_known == pytest.approx(4 / 6)
    assert [one.label for one in found.types] == ["B", "NK", "T"]
    assert [one.precision for one in found.types] == pytest.approx([2 / 3, 0, 2 / 3])
    assert [one.recall for one in found.types] == pytest.approx([1 / 2, 0, 1])
    assert [(one.cells, one.told) for one in found.types] == [(4, 3), (1, 0), (2, 3)]
    assert found.macro.precision == pytest.approx(4 / 9)
    assert found.weighted.recall == pytest.approx((4 * 1 / 2 + 2) / 7)
    assert found.confusion == Confusion(LABELS, (*LABELS, "unknown"), ((2, 0, 1, 1), (1, 0, 0, 0), (0, 0, 2, 0)))


def test_figures_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    true, told = rng.choice(list("abcdef"), 500), rng.choice(list("abcdef"), 500)
    found = evaluate(true, told)
    expected = metrics.classification_report(true, told, output_dict=True)
    assert found.accuracy == pytest.approx(expected["accuracy"])
    for mean, name in ((found.macro, "macro avg"), (found.weighted, "weighted avg")):
        assert [mean.precision, mean.recall, mean.f1] == pytest.approx(list(expected[name].values())[:3])
    for one in found.types:
        assert [one.precision, one.recall, one.f1, one.cells] == pytest.approx(list(expected[one.label].values()))
    np.testing.assert_array_equal(found.confusion.counts, metrics.confusion_matrix(true, told))


def test_types_count_as_precise_above_four_fifths():
    true = ["a"] * 9 + ["b"] * 6 + ["c"]
    told = ["a"] * 8 + ["b"] + ["b"] * 4 + ["a"] * 2 + ["c"]
    assert [one.precision for one in evaluate(true, told).types] == [0.8, 0.8, 1.0]
    assert evaluate(true, told).precise == 1
    assert json.loads(evaluate(true, told).to_json())["precise_types"] == {"above": 0.8, "types": 1, "of": 3}


def test_words_say_which_of_the_models_labels_are_right_for_a_true_one():
    words = {"T cell": ("CD4 T", "CD8 T"), "CD8": ("CD8 T",)}
    true = ["T cell", "T cell", "CD8", "CD8", "B", "B"]
    told = ["CD4 T", "CD8 T", "CD8 T", "CD4 T", "B", "CD4 T"]
    found = evaluate(true, told, labels=("B", "CD4 T", "CD8 T", "NK"), words=words)
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.confusion.true == found.confusion.told == ("B", "CD8", "T cell")
    assert found.confusion.counts == ((1, 0, 1), (0, 1, 1), (0, 0, 2))


def test_answers_that_are_right_for_no_label_keep_their_word_in_the_confusion_matrix():
    found = evaluate(
        ["B", "B", "NK"], ["mast", "NK", "NK cell"], labels=("B", "mast", "NK", "NK cell"), words={"NK": ["NK cell"]}
    )
    assert found.confusion.told == ("B", "NK", f"NK {OTHER}", "mast")
    assert found.accuracy == pytest.approx(1 / 3)


def test_labels_that_the_model_cannot_answer_are_listed_and_do_not_judge():
    true = ["B", "B", "platelet", "platelet", "platelet", "platelet", "mast"]
    told = ["B", "T", "B", "B", "T", "unknown", "unknown"]
    found = evaluate(true, told, labels=("B", "T"))
    assert (found.judged, found.accuracy, found.accuracy_of_all) == (2, 0.5, pytest.approx(1 / 7))
    assert found.unanswerable == (Unanswerable("mast", 1, 1.0, ""), Unanswerable("platelet", 4, 0.25, "B"))
    (b,) = found.types
    assert (b.precision, b.told, b.strangers) == (1.0, 1, 2)
    assert found.confusion.true == ("B", "mast", "platelet")
    assert "platelet: 4 cells, 25.0% told unknown, most of the others B" in found.report()
    assert "mast: 1 cells, 100.0% told unknown\n" in found.report()


def test_every_value_of_a_group_has_figures_of_its_own():
    donors = ["d1", "d1", "d1", "d2", "d2", "", "d2", "d9", "d9"]
    found = evaluate(TRUE, TOLD, labels=LABELS, groups={"donor": donors, "assay": ["10x"] * 9})
    assert [(one.column, one.value, one.cells) for one in found.groups] == [
        ("donor", "(none)", 1),
        ("donor", "d1", 3),
        ("donor", "d2", 3),
        ("assay", "10x", 7),
    ]
    assert [one.accuracy for one in found.groups] == pytest.approx([1, 2 / 3, 1 / 3, 4 / 7])
    assert found.groups[2].unknown == pytest.approx(1 / 3)
    assert found.groups[2].macro_f1 == pytest.approx(1 / 3)  # B 0, NK 0, T 1
    assert "donor" in found.report()


def test_confidences_tell_how_far_they_can_be_trusted():
    sure = [0.9, 0.6, 0.6, 0.1, 1.0, np.nan, 0.8, 1.0, 1.0]
    found = evaluate(TRUE, TOLD, labels=LABELS, confidence=sure).confidences
    assert found.cells == 5  # neither the unknown one, nor that without a confidence, nor those without truth
    assert found.right == pytest.approx((0.9 + 0.6 + 1.0) / 3)
    assert found.wrong == pytest.approx((0.6 + 0.8) / 2)
    assert found.calibration_error == pytest.approx((abs(1.9 - 2) + abs(1.2 - 1) + 0.8) / 5)
    assert found.kept[2] == Kept(0.9, 0.4, 1.0)
    assert evaluate(["B"], ["B"], confidence=[np.nan]).confidences is None


def test_cells_without_an_answer_are_unknown():
    found = evaluate(["B", "B"], ["", "unknown"], labels=("B",))
    assert (found.unknown, found.accuracy, found.accuracy_of_known) == (1, 0, None)
    assert "accuracy of the others -" in found.report()


def test_long_names_are_not_cut():
    true = ["CD4-positive, alpha-beta memory T cell", "B"]
    assert evaluate(true, ["T", "T"], words={true[0]: ("T",)}, labels=("B", "T")).types[1].recall == 1


def test_json_has_no_numbers_that_json_does_not_know():
    found = evaluate(["B"], ["unknown"], labels=("B",), confidence=[0.2], groups={"donor": ["ünï"]})
    told = json.loads(found.to_json())
    assert told["accuracy_of_known"] is None
    assert told["confidences"] is None
    assert told["groups"][0]["value"] == "ünï"
    assert told["confusion"] == {"true": ["B"], "told": ["B", "unknown"], "counts": [[0, 1]]}


def test_a_model_that_can_answer_nothing_is_told_with_both_lists():
    with pytest.raises(
        OptionError, match=r"which are mono, tcell\. Its own labels are CD4 T, monocyte\..*--names FILE"
    ):
        evaluate(["mono", "tcell", ""], ["monocyte", "CD4 T", "CD4 T"], labels=("monocyte", "CD4 T"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"true": ["", "unknown"]}, "No cell has a true label"),
        ({"told": ["B"]}, "There are 2 true labels, and told has 1"),
        ({"confidence": [0.5]}, "and confidence has 1"),
        ({"confidence": [0.5, 93.1]}, r"1 confidences are not between 0 and 1, such as 93\.1\. Divide"),
        ({"confidence": [-0.5, 0.5]}, "such as -0.5"),
        ({"groups": {"donor": ["a"]}}, "and donor has 1"),
        ({"words": {"B": ("Bcell",)}}, "--names names Bcell, which the model's classifier does not; it knows B, T"),
    ],
)
def test_what_does_not_fit_is_told(changes, told):
    settings = {"true": ["B", "T"], "told": ["B", "T"], "labels": ("B", "T")} | changes
    with pytest.raises(OptionError, match=told):
        evaluate(**settings)


def test_without_scikit_learn_the_install_line_is_told(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingDependencyError, match=r'pip install "scgpt-infer\[annotate\]"'):
        evaluate(["B"], ["B"])
