"""Distances between embeddings, and labels by neighbours, on cases small enough to count by hand."""

import importlib

import numpy as np
import pytest

from scgpt_infer.judging import OTHER, Score, answered, kept, meanings, nearest, score, transferred, unit
from scgpt_runtime.errors import MissingDependencyError, OptionError


def on_circle(degrees) -> np.ndarray:
    angles = np.deg2rad(np.asarray(degrees, float))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_neighbours_are_the_nearest_others_by_cosine():
    found = nearest(on_circle([0, 1, 3, 90, 92]), 2)
    assert [set(row) for row in found.tolist()] == [{1, 2}, {0, 2}, {0, 1}, {4, 2}, {3, 2}]
    assert nearest(on_circle([0, 1, 3]), 15).shape == (3, 2)


def test_kept_counts_neighbours_whatever_their_order():
    expected = np.array([[1, 2, 3], [0, 2, 3]])
    assert kept(expected[:, ::-1], expected) == 1
    assert kept(np.array([[1, 2, 9], [7, 8, 9]]), expected) == pytest.approx((2 / 3 + 0) / 2)


def test_unit_vectors_have_length_one_and_bad_rows_are_zero():
    rows = np.array([[3, 4], [np.nan, 1], [0, 0], [np.inf, 1]], np.float32)
    np.testing.assert_allclose(unit(rows), [[0.6, 0.8], [0, 0], [0, 0], [0, 0]], atol=1e-7)


def test_labels_of_clusters_are_transferred_and_rare_ones_left_out():
    vectors = on_circle([*range(20), *range(90, 110), 200, 201])
    labels = ["a"] * 20 + ["b"] * 20 + ["rare"] * 2
    assert transferred(vectors, labels) == Score(1.0, 1.0, 40)
    mixed = transferred(vectors, (["a", "b"] * 20) + ["rare"] * 2)
    assert mixed.accuracy < 0.8


def test_no_cell_of_a_batch_votes_for_another_of_it():
    vectors = on_circle([*range(20), *range(180, 200)])
    labels = ["a", "b"] * 20
    labels[:20] = ["a"] * 15 + ["b"] * 5
    groups = ["first"] * 20 + ["second"] * 20
    labels[20:] = ["b"] * 15 + ["a"] * 5
    assert transferred(vectors, labels).accuracy > 0.7
    assert transferred(vectors, labels, groups).accuracy < 0.5
    with pytest.raises(OptionError, match=r"All cells are of one batch \('first'\)"):
        transferred(vectors, labels, ["first"] * 40)


def test_too_few_cells_of_every_label_are_told():
    with pytest.raises(OptionError, match="No label has 5 cells"):
        transferred(on_circle(range(8)), list("abcdefgh"))


def test_an_answer_counts_for_the_label_that_it_is_right_for():
    meaning = {"T": ("CD4", "CD8"), "CD8 T": ("CD8",), "B": ("B cell",)}
    classes = ["CD4", "CD8", "CD8", "B cell", "NK"]
    assert answered(classes, ["T", "T", "CD8 T", "T", "B"], meaning) == ["T", "T", "CD8 T", "B", "NK"]


def test_a_class_named_like_a_label_that_it_does_not_mean_is_no_answer_for_it():
    meaning = {"NK": ("NK cell",), "B": ("B",)}
    assert answered(["NK", "NK cell", "B"], ["NK", "NK", "NK"], meaning) == [f"NK {OTHER}", "NK", "B"]


def test_a_label_means_the_class_of_its_name_unless_the_user_says_otherwise():
    told = {"NK": ("NK cell", "NKT"), "nowhere": ("B",)}
    assert meanings(["B", "NK", "new"], ["B", "NK", "NK cell", "NKT"], told, "--names") == {
        "B": ("B",),
        "NK": ("NK cell", "NKT"),
        "new": (),
    }
    with pytest.raises(OptionError, match="--names names NKT, which the model's classifier does not; it knows B, NK"):
        meanings(["B"], ["B", "NK cell"], told, "--names")


def test_scores_by_hand():
    found = score(["a", "a", "b", "b"], ["a", "b", "b", "c"])
    assert found.accuracy == 0.5
    assert found.macro_f1 == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found.cells == 4


def test_without_scikit_learn_the_install_line_is_told(monkeypatch):
    real = importlib.import_module

    def missing(name, *rest):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingDependencyError, match=r'pip install "scgpt-infer\[report\]"'):
        nearest(on_circle([0, 1, 2]))
