"""Places of cells: the same ones each time, like beside like."""

import sys

import numpy as np
import pytest

from scgpt_infer.report.layout import evenly, umap_places
from scgpt_runtime.errors import MissingDependencyError


def test_rows_are_taken_evenly_and_always_the_same():
    rows = np.arange(0, 1000, 2)
    taken = evenly(rows, 50)
    assert len(set(taken)) == 50
    assert set(np.diff(taken)) == {20}
    np.testing.assert_array_equal(taken, evenly(rows, 50))
    assert evenly(rows, 500) is rows


@pytest.mark.parametrize("n_cells", [1, 2, 9])
def test_few_cells_are_placed_without_umap(n_cells, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    vectors = np.eye(9, 16, dtype=np.float32)[:n_cells]
    places, told = umap_places(vectors)
    assert places.shape == (n_cells, 2)
    assert np.isfinite(places).all()
    assert "principal components" in told


def test_without_umap_the_line_that_installs_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "scgpt-infer\[report\]".*--umap-key'):
        umap_places(np.eye(20, dtype=np.float32))


@pytest.mark.slow
def test_umap_gives_the_same_places_again_and_keeps_groups_apart():
    pytest.importorskip("umap")
    rng = np.random.default_rng(0)
    groups = np.arange(120) % 3
    vectors = (np.eye(3, 16)[groups] * 5 + rng.normal(size=(120, 16)) * 0.2).astype(np.float32)
    places, told = umap_places(vectors)
    np.testing.assert_array_equal(places, umap_places(vectors)[0])
    assert "seed 0" in told
    middles = np.stack([places[groups == group].mean(axis=0) for group in range(3)])
    nearest = np.linalg.norm(places[:, None] - middles, axis=2).argmin(axis=1)
    assert (nearest == groups).all()


@pytest.mark.slow
def test_umap_places_cells_that_are_all_alike():
    pytest.importorskip("umap")
    places, _ = umap_places(np.ones((30, 4), np.float32))
    assert np.isfinite(places).all()
