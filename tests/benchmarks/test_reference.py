"""The benchmark of references: its cells are like themselves each time, and every kind comes to a written result."""

import json

import numpy as np
import pytest

from benchmarks import reference


def test_cells_are_drawn_around_the_same_types_whatever_the_seed(tmp_path):
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        reference.make(tmp_path / f"{name}.npy", 600, seed)
    one, again, other = (np.load(tmp_path / f"{name}.npy") for name in ("one", "again", "other"))
    types, of_other = (np.load(tmp_path / f"{name}.types.npy") for name in ("one", "other"))
    np.testing.assert_array_equal(one, again)
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, atol=1e-6)
    nearest = (other @ one.T).argmax(axis=1)
    known = np.isin(of_other, types)
    assert (types[nearest] == of_other)[known].mean() > 0.9


def test_each_kind_is_built_searched_and_told(tmp_path, capsys):
    pytest.importorskip("faiss")
    words = ["--cells", "400", "--queries", "50", "--kinds", "exact,hnsw", "--json", str(tmp_path / "out.json")]
    assert reference.main(words) == 0
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["kinds"]["exact"]["search"]["recall_at_10"] == 1
    assert 0.9 < told["kinds"]["hnsw"]["search"]["recall_at_10"] <= 1
    assert told["kinds"]["hnsw"]["build"]["bytes"]["index.faiss"] > 400 * 512
    assert capsys.readouterr().out.count("| hnsw |") == 1
    assert (tmp_path / "out.md").exists()
