"""Sums of profiles: means and variances of numpy, the same bits in any order."""

import numpy as np
import pytest

from scgpt_infer.perturbation.sums import ProfileSums
from scgpt_runtime.errors import CellsError


def test_means_and_variances_are_those_of_numpy_whatever_the_order():
    random = np.random.default_rng(0)
    profiles, groups = random.gamma(1.0, 2.0, (300, 7)).astype(np.float32), random.integers(-1, 3, 300)
    whole, parts = ProfileSums(3, 7, squares=True), ProfileSums(3, 7, squares=True)
    whole.add(profiles, groups)
    order = random.permutation(300)
    for some in np.array_split(order, 11):
        parts.add(profiles[some], groups[some])
    for group in range(3):
        expected, found = profiles[groups == group].astype(np.float64), whole.moments(group)
        assert found.n_cells == len(expected)
        np.testing.assert_allclose(found.mean, expected.mean(axis=0), rtol=1e-8)
        np.testing.assert_allclose(found.variance, expected.var(axis=0, ddof=1), rtol=1e-6)
        np.testing.assert_array_equal(found.mean, parts.mean(group))
        np.testing.assert_array_equal(found.variance, parts.moments(group).variance)


def test_a_group_without_profiles_has_no_mean_and_values_out_of_range_are_told():
    sums = ProfileSums(2, 3)
    sums.add(np.ones((1, 3), np.float32), np.array([0]))
    assert np.isnan(sums.mean(1)).all()
    with pytest.raises(CellsError, match="--values"):
        sums.add(np.full((1, 3), 1e6, np.float32), np.array([0]))
