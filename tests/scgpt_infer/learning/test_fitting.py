"""The regression: what is held out, and what is chosen."""

import numpy as np
import pytest

from scgpt_infer.learning import fitting
from scgpt_infer.learning.fitting import GRID, fit
from scgpt_infer.learning.options import LearnOptions
from scgpt_infer.tasks.annotate import softmax
from scgpt_runtime.errors import OptionError


def cells(n_classes=3, n_cells=300, noise=0.5, seed=0):
    """Unit vectors around a middle for each class, and labels."""
    random = np.random.default_rng(seed)
    codes = random.integers(0, n_classes, n_cells)
    vectors = random.standard_normal((n_classes, 8))[codes] + noise * random.standard_normal((n_cells, 8)) + 5
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit, np.array([f"type {code}" for code in codes])


@pytest.mark.parametrize("n_classes", [2, 5])
def test_folded_weights_answer_as_the_model_does(n_classes):
    vectors, labels = cells(n_classes)
    found = fit(vectors, labels, None, LearnOptions())
    logits = vectors @ found.weights.T + found.bias
    assert found.weights.shape == (n_classes, 8)
    np.testing.assert_allclose(softmax(logits), found.probabilities, atol=1e-5)


def test_no_fold_is_told_by_what_its_own_group_taught():
    """Each donor's labels lie along a direction of its own, which no other donor tells of."""
    random = np.random.default_rng(0)
    donors = np.repeat(np.arange(5), 60)
    labels = np.where(random.random(300) < 0.5, "x", "y")
    vectors = np.where(labels == "x", 1, -1)[:, None] * np.eye(8)[donors] + 0.1 * random.standard_normal((300, 8))
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    codes = np.unique(labels, return_inverse=True)[1]
    apart = fit(unit, labels, donors.astype(str), LearnOptions(c=1.0))
    mixed = fit(unit, labels, None, LearnOptions(c=1.0))
    assert (apart.held_out.codes == codes).mean() < 0.6
    assert (mixed.held_out.codes == codes).mean() > 0.8


def test_the_search_ends_where_held_out_loss_rises():
    vectors, labels = cells(noise=2.0)
    found = fit(vectors, labels, None, LearnOptions())
    losses = list(found.tried.values())
    assert list(found.tried) == list(GRID[: len(losses)])
    assert found.tried[found.regularisation] == min(losses) == found.held_out.log_loss
    assert losses[-1] >= losses[-2]
    assert len(losses) < len(GRID)


def test_a_given_strength_is_taken():
    found = fit(*cells(), None, LearnOptions(c=0.25))
    assert (found.regularisation, list(found.tried)) == (0.25, [0.25])


def test_balanced_classes_find_more_of_the_rare():
    vectors, labels = cells(2, noise=1.5)
    rare = labels == "type 1"
    keep = ~rare | (np.cumsum(rare) <= 15)
    told = {
        balanced: fit(vectors[keep], labels[keep], None, LearnOptions(c=0.1, balanced=balanced)).held_out.codes.sum()
        for balanced in (False, True)
    }
    assert told[True] > told[False]


def test_a_class_that_a_fold_was_not_taught_does_not_end_it():
    vectors, labels = cells(4)
    groups = np.where(labels == "type 3", "d0", np.array(["d0", "d1", "d2"])[np.arange(len(labels)) % 3])
    found = fit(vectors, labels, groups, LearnOptions())
    last = labels == "type 3"
    assert not (found.held_out.codes[last] == 3).any()
    assert np.isfinite(found.held_out.log_loss)
    assert found.labels[3] == "type 3"


def test_one_class_left_is_refused():
    vectors, labels = cells(2)
    groups = np.where(labels == "type 0", "d0", "d1")
    with pytest.raises(
        OptionError,
        match=r"only those of class 'type [01]' are left to teach, so the classes cannot be judged by donor",
    ):
        fit(vectors, labels, groups, LearnOptions(by="donor"))


def test_a_solver_that_was_cut_off_says_so(monkeypatch):
    assert fit(*cells(), None, LearnOptions(c=1.0)).converged
    monkeypatch.setattr(fitting, "MOST_STEPS", 2)
    assert not fit(*cells(), None, LearnOptions(c=1.0)).converged


def test_vectors_that_are_all_equal_tell_only_how_frequent_classes_are():
    vectors = np.tile(np.float32([0.6, 0.8]), (40, 1))
    labels = np.array(["x"] * 30 + ["y"] * 10)
    found = fit(vectors, labels, None, LearnOptions())
    np.testing.assert_allclose(found.probabilities[:, 0], 0.75, atol=1e-3)
