import numpy as np
import pytest

from scgpt_infer.gene_vectors.sums import Sums
from scgpt_runtime.errors import CellsError


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 3, (1000, 7)).astype(np.float32)


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(1).integers(-1, 9, 1000)


def sums_of(vectors, rows, order=slice(None), parts=1) -> Sums:
    sums = Sums(10, 7)
    for part in np.array_split(np.arange(len(rows))[order], parts):
        sums.add(vectors[part], rows[part])
    return sums


def test_means_are_those_of_float64_and_what_counts_for_nothing_is_left_out(vectors, rows):
    sums = sums_of(vectors, rows)
    there = np.arange(9)
    assert sums.counts.tolist() == [*np.bincount(rows[rows >= 0], minlength=9).tolist(), 0]
    expected = np.stack([vectors[rows == row].astype(np.float64).mean(axis=0) for row in there])
    found = sums.means(there)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_no_order_shows_in_any_bit(vectors, rows, seed):
    random = np.random.default_rng(seed)
    vectors[:, 0] *= 10.0 ** random.integers(-6, 3, 1000)
    there = np.arange(9)
    plain = sums_of(vectors, rows).means(there)
    shuffled = sums_of(vectors, rows, random.permutation(1000), parts=17)
    assert shuffled.means(there).tobytes() == plain.tobytes()
    first, second = sums_of(vectors, rows, slice(0, 321)), sums_of(vectors, rows, slice(321, None))
    second.merge(first)
    assert second.means(there).tobytes() == plain.tobytes()


def test_a_row_that_counts_for_nothing_may_be_no_number(vectors, rows):
    broken = vectors.copy()
    broken[rows < 0] = np.nan
    assert sums_of(broken, rows).means(np.arange(9)).tobytes() == sums_of(vectors, rows).means(np.arange(9)).tobytes()


def test_sums_that_would_overflow_are_refused():
    large, rows = np.full((300, 1), 1e7, np.float32), np.zeros(300, np.int64)
    sums, other = Sums(1, 1), Sums(1, 1)
    sums.add(large, rows)
    other.add(large, rows)
    with pytest.raises(CellsError, match=r"leave their range.*\(--limit\)"):
        sums.add(large, rows)
    with pytest.raises(CellsError, match=r"after 600 cells"):
        sums.merge(other)


def test_just_below_the_limit_sums_are_right():
    large = np.full((400, 1), 1e7, np.float32)
    sums = Sums(1, 1)
    sums.add(large, np.zeros(400, np.int64))
    assert sums.means(np.array([0])).tolist() == [[1e7]]
