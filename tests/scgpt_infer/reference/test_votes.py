"""Votes: majority as in the original, weights as in scikit-learn, ties by distance and then by name."""

import numpy as np
import pytest

from scgpt_infer.reference.exact import nearest
from scgpt_infer.reference.votes import ranked
from toy_reference import drawn


def test_the_majority_wins_and_its_share_is_the_confidence():
    codes, confidences = ranked(np.array([[2, 0, 0, 1, 0]]), np.array([[0.1, 0.2, 0.3, 0.4, 0.5]]), 3)
    assert codes.tolist() == [[0, 2, 1]]
    np.testing.assert_allclose(confidences, [[0.6, 0.2, 0.2]])
    assert (codes.dtype, confidences.dtype) == (np.int32, np.float32)


def test_equal_votes_go_to_the_nearer_label():
    codes, _ = ranked(np.array([[0, 1, 1, 0]]), np.array([[0.1, 0.2, 0.3, 0.5]]), 2)
    assert codes.tolist() == [[1, 0]]  # 0.5 is less than 0.6


def test_equal_votes_and_distances_go_to_the_first_name():
    codes, _ = ranked(np.array([[1, 0, 0, 1]]), np.array([[0.25, 0.25, 0.5, 0.5]]), 2)
    assert codes.tolist() == [[0, 1]]


def test_a_label_is_told_once():
    codes, confidences = ranked(np.array([[3, 3, 3]]), np.zeros((1, 3)), 2)
    assert codes.tolist() == [[3, -1]]
    assert confidences[0, 0] == 1
    assert np.isnan(confidences[0, 1])


def test_more_labels_asked_for_than_neighbours():
    codes, confidences = ranked(np.array([[0, 1]]), np.array([[0.1, 0.2]]), 4)
    assert codes.tolist() == [[0, 1, -1, -1]]
    assert np.isnan(confidences[0, 2:]).all()


@pytest.mark.parametrize("weights", ["majority", "distance"])
def test_who_does_not_vote_does_not_count(weights):
    codes, confidences = ranked(np.array([[-1, 0, 1, 0], [-1, -1, -1, -1]]), np.array([[0.0, 1, 1, 1]] * 2), 2, weights)
    assert codes.tolist() == [[0, 1], [-1, -1]]
    np.testing.assert_allclose(confidences[0], [2 / 3, 1 / 3], rtol=1e-6)
    assert np.isnan(confidences[1]).all()


def test_nearer_neighbours_may_outweigh_more_of_them():
    codes, distances = np.array([[0, 1, 1]]), np.array([[0.01, 1.0, 1.0]])
    assert ranked(codes, distances, 1)[0].item() == 1
    best, confidences = ranked(codes, distances, 2, "distance")  # 1 / 0.1 against 1 / 1 + 1 / 1
    assert best.tolist() == [[0, 1]]
    np.testing.assert_allclose(confidences, [[10 / 12, 2 / 12]], rtol=1e-6)


def test_a_neighbour_at_distance_zero_decides_alone():
    codes, confidences = ranked(np.array([[1, 0, 0]]), np.array([[0.0, 0.1, 0.1]]), 2, "distance")
    assert codes[0, 0] == 1
    assert confidences[0].tolist() == [1, 0]


@pytest.mark.parametrize(("weights", "theirs"), [("majority", "uniform"), ("distance", "distance")])
def test_shares_are_those_of_scikit_learn(weights, theirs):
    neighbors = pytest.importorskip("sklearn.neighbors")
    vectors, queries = drawn(200, 1), np.vstack([drawn(30, 2), drawn(200, 1)[:5]])
    classes = np.random.default_rng(0).integers(0, 4, 200)
    right = neighbors.KNeighborsClassifier(7, weights=theirs, algorithm="brute").fit(vectors, classes)
    found = nearest(queries, vectors, 7)
    codes, confidences = ranked(classes[found.rows].astype(np.int32), found.distances, 4, weights)
    dense = np.zeros((len(queries), 4))
    row, place = np.nonzero(codes >= 0)
    dense[row, codes[row, place]] = confidences[row, place]
    np.testing.assert_allclose(dense[:30], right.predict_proba(queries)[:30], atol=1e-5)
    if weights == "distance":
        np.testing.assert_array_equal(codes[30:, 0], classes[:5])  # the cell itself is at distance zero
