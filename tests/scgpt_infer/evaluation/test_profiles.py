"""Figures of predicted profiles, held against scipy and scikit-learn."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from scgpt_infer.evaluation.profiles import (
    Moments,
    average,
    compare,
    directions,
    most_changed,
    pearson,
    welch_t,
)


def moments(cells: np.ndarray) -> Moments:
    return Moments(len(cells), cells.mean(axis=0), cells.var(axis=0, ddof=1))


@pytest.fixture
def groups() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    control, perturbed = random.gamma(2.0, size=(40, 60)), random.gamma(2.0, size=(25, 60))
    perturbed[:, :5] += 3.0
    perturbed[:, 5:8] -= 2.0
    return perturbed, control


def test_t_is_that_of_scipy(groups: tuple[np.ndarray, np.ndarray]) -> None:
    perturbed, control = groups
    expected = stats.ttest_ind(perturbed, control, equal_var=False).statistic
    np.testing.assert_allclose(welch_t(moments(perturbed), moments(control)), expected, rtol=1e-12)


def test_genes_that_move_most_come_first_whatever_the_direction(groups: tuple[np.ndarray, np.ndarray]) -> None:
    perturbed, control = groups
    assert set(most_changed(moments(perturbed), moments(control), 8).tolist()) == set(range(8))


def test_a_gene_without_variance_ranks_by_whether_it_moved() -> None:
    still = Moments(3, np.array([0.0, 0.0, 1.0]), np.zeros(3))
    moved = Moments(3, np.array([0.0, 2.0, 1.0]), np.zeros(3))
    assert most_changed(moved, still).tolist() == [1, 0, 2]


def test_pearson_is_that_of_scipy_and_not_defined_for_a_constant() -> None:
    one, other = np.random.default_rng(1).normal(size=(2, 50))
    assert pearson(one, other) == pytest.approx(stats.pearsonr(one, other).statistic, abs=1e-12)
    assert pearson(one, np.zeros(50)) is None
    assert pearson(one[:1], other[:1]) is None


@pytest.mark.parametrize("seed", range(5))
def test_directions_are_those_of_sklearn(seed: int) -> None:
    true, told = np.random.default_rng(seed).normal(scale=0.3, size=(2, 80))
    classes = [np.sign(change) * (np.abs(change) > 0.1) for change in (true, told)]
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(*classes, labels=[1, -1], average="micro")
    found = directions(true, told, 0.1)
    assert (found.precision, found.recall, found.f1) == pytest.approx((precision, recall, f1))
    assert (found.changed, found.told) == tuple(int(np.count_nonzero(one)) for one in classes)


def test_who_tells_no_change_has_no_precision_and_finds_nothing() -> None:
    found = directions(np.array([1.0, -1.0, 0.0]), np.zeros(3))
    assert (found.precision, found.recall, found.f1) == (None, 0.0, 0.0)
    nothing = directions(np.zeros(3), np.zeros(3))
    assert (nothing.precision, nothing.recall, nothing.f1) == (None, None, None)


def test_the_truth_itself_is_perfect_and_the_control_has_no_change_to_correlate() -> None:
    control, true = np.random.default_rng(2).normal(size=(2, 30))
    top = np.arange(10)
    perfect = compare(true, true, control, top)
    assert (perfect.pearson, perfect.pearson_change, perfect.pearson_change_top) == pytest.approx((1, 1, 1))
    assert (perfect.mse, perfect.precision, perfect.recall) == (0, 1, 1)
    unchanged = compare(true, control, control, top)
    assert unchanged.pearson_change is None
    assert unchanged.mse == pytest.approx(metrics.mean_squared_error(true, control))
    assert unchanged.mse_top == pytest.approx(metrics.mean_squared_error(true[top], control[top]))


def test_averages_leave_out_what_is_not_defined() -> None:
    control, true = np.random.default_rng(3).normal(size=(2, 30))
    top = np.arange(5)
    figures = [compare(true, true, control, top), compare(true, control, control, top)]
    mean = average(figures)
    assert mean.pearson_change == pytest.approx(1)
    assert mean.recall == pytest.approx(0.5)
    assert average([]).mse is None
