"""Bins on the scale of a cell."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from scgpt_infer.imputation import edges_of, to_scale
from scgpt_infer.imputation.scale import expected
from scgpt_runtime.kernels import bins_from_draws

COUNTS = np.array([1, 1, 1, 1, 2, 2, 5, 9], np.float32)


def scaled(bins, values=COUNTS, n_bins=51):
    return to_scale(np.array([bins], np.float32), edges_of(values, n_bins)[None])[0]


def test_zero_and_what_is_below_is_zero_and_bin_1_is_the_least_value():
    np.testing.assert_allclose(scaled([-3, 0, 0.5, 1]), [0, 0, 0.5, 1])


def test_the_highest_bin_and_what_is_above_is_the_greatest_value():
    np.testing.assert_allclose(scaled([50, 51, 200]), [9, 9, 9])


def test_between_bins_it_is_a_straight_line():
    edges = edges_of(COUNTS, 51)
    np.testing.assert_allclose(scaled([44.25]), [edges[43] + 0.25 * (edges[44] - edges[43])])


@given(st.integers(0, 2**32 - 1))
def test_a_value_that_is_an_edge_comes_back_whatever_its_draw(seed):
    """All counts of this cell are edges, so each bin that a count may draw leads back to it."""
    draws = np.random.default_rng(seed).random(len(COUNTS))
    np.testing.assert_array_equal(scaled(bins_from_draws(COUNTS, draws, np.linspace(0, 1, 50))), COUNTS)


@given(
    arrays.arrays(np.float32, st.integers(1, 80), elements=st.floats(0.125, 1000, width=32)),
    arrays.arrays(np.float32, 6, elements=st.floats(-5, 60, width=32)),
)
def test_more_bins_are_never_less(values, bins):
    found = scaled(np.sort(bins), values)
    assert (np.diff(found) >= 0).all()
    assert found.min() >= 0
    assert found.max() <= values.max()


def test_a_cell_without_an_answer_stays_without():
    assert np.isnan(scaled([np.nan])).all()


@pytest.mark.parametrize("n_bins", [2, 11, 51])
def test_any_number_of_bins(n_bins):
    np.testing.assert_allclose(scaled([1, n_bins - 1], n_bins=n_bins)[-1], edges_of(COUNTS, n_bins)[-1])


def test_nothing_is_expected_where_a_value_is_surely_zero():
    found = expected(np.array([[5, 0, 50]], np.float32), np.array([[0, 0, 1]], np.float32), edges_of(COUNTS, 51)[None])
    np.testing.assert_array_equal(found, [[0, 0, 9]])
