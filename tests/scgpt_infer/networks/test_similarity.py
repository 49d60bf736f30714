"""Edges by cosine: those of a plain computation, whatever the blocks."""

import numpy as np
import pytest

from scgpt_infer.networks import similarity
from scgpt_infer.networks.similarity import near_edges, strong_edges, unit
from scgpt_runtime.errors import GenesError


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return unit(np.random.default_rng(0).normal(size=(90, 12)).astype(np.float32))


def pairs(edges) -> list[tuple[int, int]]:
    return list(zip(edges.source.tolist(), edges.target.tolist(), strict=True))


def test_near_edges_are_the_nearest_of_either_end(vectors):
    cosine = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    np.fill_diagonal(cosine, -2)
    nearest = np.argsort(-cosine, axis=1)[:, :4]
    expected = {(min(i, j), max(i, j)) for i in range(90) for j in nearest[i].tolist() if cosine[i, j] > 0}
    edges = near_edges(vectors, 4)
    assert set(pairs(edges)) == expected
    np.testing.assert_allclose(edges.cosine, cosine[edges.source, edges.target], rtol=1e-6)
    assert (np.diff(edges.cosine) <= 0).all()


def test_no_edge_joins_a_gene_with_itself_even_where_many_are_equal():
    vectors = unit(np.ones((9, 3), np.float32))
    edges = near_edges(vectors, 2)
    assert (edges.source < edges.target).all()
    assert set(edges.source.tolist()) | set(edges.target.tolist()) == set(range(9))
    assert pairs(edges) == sorted(pairs(edges))  # equal cosines stand in the order of their genes


def test_strong_edges_are_all_that_reach_the_threshold_whatever_the_block(vectors, monkeypatch):
    cosine = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    expected = {(i, j) for i in range(90) for j in range(i + 1, 90) if cosine[i, j] >= 0.4}
    whole = strong_edges(vectors, 0.4)
    assert set(pairs(whole)) == expected
    monkeypatch.setattr(similarity, "_BLOCK", 7)
    small = strong_edges(vectors, 0.4)
    assert pairs(small) == pairs(whole)
    assert small.cosine.tobytes() == whole.cosine.tobytes()


def test_a_threshold_keeps_the_near_edges_that_reach_it(vectors):
    edges, kept = near_edges(vectors, 4), near_edges(vectors, 4, 0.6)
    assert pairs(kept) == [pair for pair, cosine in zip(pairs(edges), edges.cosine, strict=True) if cosine >= 0.6]
    assert 0 < len(kept.cosine) < len(edges.cosine)


def test_more_neighbours_than_genes_are_all_genes():
    vectors = unit(np.array([[1, 0.1], [1, 0.2], [1, 0.3]], np.float32))
    assert sorted(pairs(near_edges(vectors, 15))) == [(0, 1), (0, 2), (1, 2)]


def test_too_many_pairs_are_an_error_that_says_what_to_do(vectors, monkeypatch):
    monkeypatch.setattr(similarity, "MOST_EDGES", 10)
    with pytest.raises(GenesError, match="Raise --threshold"):
        strong_edges(vectors, 0.01)


def test_an_embedding_without_a_direction_is_an_error():
    with pytest.raises(GenesError, match="zero or not finite"):
        unit(np.array([[1, 2], [0, 0]], np.float32))
