"""The benchmark of several modalities: what its figures say of answers that are known."""

import numpy as np
import pytest
import scipy.sparse as sp

from benchmarks.multiomic import COMPONENTS, figures, indexed


@pytest.fixture
def true() -> np.ndarray:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 51, (60, 5)).astype(np.float32)
    values[:, 4] = 0  # never seen: no correlation is taken of it
    return values


def test_the_truth_is_right_and_a_mean_says_nothing(true):
    assert figures(true, true) == {"r": 1.0, "rmse": 0.0, "n_features": 4}
    mean = figures(np.broadcast_to(true.mean(axis=0), true.shape), true)
    assert mean["r"] == 0
    assert mean["rmse"] == pytest.approx(true[:, :4].std() * np.sqrt(4 / 5), rel=0.05)
    assert figures(-true, true)["r"] == -1


def test_latent_semantic_indexing_tells_two_kinds_of_cells_apart():
    rng = np.random.default_rng(0)
    share = np.full((80, 200), 0.05)
    share[:40, :100] = share[40:, 100:] = 0.3
    found = indexed(sp.csr_matrix((rng.random((80, 200)) < share).astype(np.float32)), np.arange(0, 80, 2))
    assert found.shape == (80, COMPONENTS)
    kinds = found[:, 0] > 0
    assert max((kinds == (np.arange(80) < 40)).mean(), (kinds == (np.arange(80) >= 40)).mean()) > 0.95
