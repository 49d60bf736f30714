"""The benchmark of imputation hides what it says, and counts what it says."""

import numpy as np
import pytest
from scipy import sparse

from benchmarks.impute import Told, ask, best_threshold, bins_of, f1_of, figures, of_means, of_neighbours


@pytest.fixture(scope="module")
def question():
    random = np.random.default_rng(0)
    kinds = random.integers(0, 2, 120)
    means = np.where(kinds[:, None] == np.arange(80) % 2, 4.0, 0.3)
    counts = sparse.csr_matrix(random.poisson(means).astype(np.float32))
    return ask(counts, [f"g{i}" for i in range(80)], [f"c{i}" for i in range(120)], np.arange(60), 0)


def test_hidden_entries_are_gone_from_what_is_seen(question):
    seen, whole = question.seen().toarray(), question.counts.toarray()
    entries = np.zeros(whole.shape, bool)
    entries[:, question.panel] = question.entries
    assert not seen[entries].any()
    np.testing.assert_array_equal(seen[~entries], whole[~entries])
    assert question.entries.sum() == 120 * 6
    assert whole[entries].any()


def test_no_baseline_looks_at_what_is_hidden(question):
    other = question.counts.toarray()
    other[:, question.panel] = np.where(question.entries, 99, other[:, question.panel])
    tampered = ask(sparse.csr_matrix(other), question.genes, question.cells, question.panel, 0)
    np.testing.assert_array_equal(of_means(question).values, of_means(tampered).values)
    np.testing.assert_array_equal(of_neighbours(question, (5,))[5].values, of_neighbours(tampered, (5,))[5].values)


def test_neighbours_know_more_than_means_where_there_are_types(question):
    means, near = of_means(question), of_neighbours(question, (10,))[10]
    assert figures(near, question, 0.5)["mse"] < 0.7 * figures(means, question, 0.5)["mse"]
    assert figures(near, question, 0.5)["auc_nonzero"] > 0.8


def test_the_truth_is_told_as_right(question):
    true = question.true()
    found = figures(Told(true, (true > 0).astype(float), true), question, 0.5)
    assert (found["mse"], found["f1"], found["auc_nonzero"], found["mae_bins"]) == (0, 1, 1, 0)
    assert best_threshold(Told(true, true, true), true, question.entries) > 0


def test_zero_is_bin_0_and_the_greatest_value_the_highest_bin(question):
    true = question.true()
    bins = bins_of(true, question)
    assert (bins[true == 0] == 0).all()
    assert (bins[true > 0] >= 1).all()
    assert bins.max() <= 50


def test_f1():
    told, right = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert f1_of(told, right) == (0.5, 0.5, 0.5)
