"""The nearest cells are right, ordered by (distance, row), and the same however the work is cut."""

import numpy as np
import pytest

from scgpt_infer.reference import exact
from scgpt_infer.reference.exact import nearest, reranked
from toy_reference import drawn, unit


def by_hand(queries, vectors, k):
    """All distances in float64, ordered by (distance, row)."""
    apart = ((queries[:, None, :].astype(np.float64) - vectors[None, :, :]) ** 2).sum(axis=2)
    rows = np.lexsort((np.broadcast_to(np.arange(len(vectors)), apart.shape), apart), axis=1)[:, :k]
    return rows, np.take_along_axis(apart, rows, axis=1)


def test_neighbours_are_those_of_all_distances():
    queries, vectors = drawn(40, 1), drawn(500, 2)
    found = nearest(queries, vectors, 10)
    rows, apart = by_hand(queries, vectors, 10)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_array_equal(found.distances, apart)


@pytest.mark.parametrize(("rows", "queries"), [(7, 3), (64, 512), (499, 1)])
def test_neighbours_do_not_depend_on_blocks(monkeypatch, rows, queries):
    asked, vectors = drawn(40, 1), drawn(500, 2)
    whole = nearest(asked, vectors, 10)
    monkeypatch.setattr(exact, "_ROWS", rows)
    monkeypatch.setattr(exact, "_QUERIES", queries)
    monkeypatch.setattr(exact, "_PAIRS", 5)
    cut = nearest(asked, vectors, 10)
    np.testing.assert_array_equal(cut.rows, whole.rows)
    np.testing.assert_array_equal(cut.distances, whole.distances)


def test_a_query_has_the_same_neighbours_alone_and_among_others():
    asked, vectors = drawn(40, 1), drawn(500, 2)
    whole = nearest(asked, vectors, 10)
    for i in (0, 17, 39):
        alone = nearest(asked[i : i + 1], vectors, 10)
        np.testing.assert_array_equal(alone.rows[0], whole.rows[i])
        np.testing.assert_array_equal(alone.distances[0], whole.distances[i])


@pytest.mark.parametrize("rows", [4, 16_384])
def test_equal_distances_are_in_the_order_of_rows(monkeypatch, rows):
    monkeypatch.setattr(exact, "_ROWS", rows)
    vectors = np.repeat(drawn(1), 30, axis=0)
    found = nearest(drawn(3, 1), vectors, 5)
    np.testing.assert_array_equal(found.rows, np.tile(np.arange(5), (3, 1)))


def test_distances_that_float32_cannot_tell_apart_are_ordered_by_float64(monkeypatch):
    monkeypatch.setattr(exact, "_ROWS", 3)
    rng = np.random.default_rng(0)
    centre = rng.normal(size=64)
    vectors = unit(centre + 1e-4 * rng.normal(size=(200, 64)))  # products differ by less than their rounding
    queries = unit(centre + 1e-4 * rng.normal(size=(20, 64)))
    np.testing.assert_array_equal(nearest(queries, vectors, 10).rows, by_hand(queries, vectors, 10)[0])


def test_queries_may_be_of_any_length():
    queries, vectors = drawn(20, 1) * np.linspace(0.1, 30, 20, dtype=np.float32)[:, None], drawn(300, 2)
    np.testing.assert_array_equal(nearest(queries, vectors, 5).rows, by_hand(queries, vectors, 5)[0])


def test_a_query_that_is_not_finite_has_no_neighbours():
    queries = drawn(4, 1)
    queries[1, 3], queries[2] = np.nan, np.inf
    found = nearest(queries, drawn(50), 3)
    assert (found.rows[[1, 2]] == -1).all()
    assert np.isinf(found.distances[[1, 2]]).all()
    assert (found.rows[[0, 3]] >= 0).all()


def test_fewer_cells_than_neighbours_asked_for():
    found = nearest(drawn(2, 1), drawn(3), 5)
    assert (np.sort(found.rows[:, :3]) == [0, 1, 2]).all()
    assert (found.rows[:, 3:] == -1).all()


def test_candidates_are_ranked_as_all_cells_are():
    queries, vectors = drawn(20, 1), drawn(300, 2)
    candidates = np.tile(np.random.default_rng(0).permutation(300), (20, 1))
    right = nearest(queries, vectors, 10)
    np.testing.assert_array_equal(reranked(queries, vectors, candidates, 10).rows, right.rows)
    np.testing.assert_array_equal(reranked(queries, vectors, candidates, 10).distances, right.distances)


def test_candidates_may_lack():
    candidates = np.array([[-1, 4, -1], [-1, -1, -1]])
    found = reranked(drawn(2, 1), drawn(10), candidates, 2)
    assert found.rows.tolist() == [[4, -1], [-1, -1]]
