"""The demo's figures: computed as they are named, and real on the cells that ship."""

import importlib.util
import json

import numpy as np
import pytest

from scgpt_infer import cli, demo, showcase


@pytest.fixture(scope="module")
def showing() -> showcase.Showing:
    return showcase.show()


def test_neighbours_of_separate_groups_agree_and_of_one_mixed_group_do_not():
    rng = np.random.default_rng(0)
    near_x = np.array([1.0, 0.0]) + rng.normal(0, 0.01, (30, 2))
    near_y = np.array([0.0, 1.0]) + rng.normal(0, 0.01, (30, 2))
    vectors = np.concatenate([near_x, near_y]).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert showcase.neighbour_accuracy(vectors, ["x"] * 30 + ["y"] * 30) == 1.0
    assert showcase.neighbour_accuracy(vectors, ["x", "y"] * 30) < 0.8


def test_a_cell_is_no_neighbour_of_itself():
    vectors = np.eye(4, dtype=np.float32)
    assert showcase.neighbour_accuracy(vectors, ["a", "b", "c", "d"], neighbours=1) == 0.0


def test_the_shipped_cells_get_unit_vectors_and_known_types(showing):
    assert showing.vectors.shape[0] == len(showing.published) == len(showing.answers) == 700
    assert np.abs(np.linalg.norm(showing.vectors, axis=1) - 1).max() < 1e-5
    assert set(showing.types) == set(showing.published)
    assert sum(figures.cells for figures in showing.types.values()) == 700


def test_accuracy_is_at_least_the_share_of_equal_main_types(showing):
    equal = np.mean([mine == theirs for mine, theirs in zip(showing.answers, showing.published, strict=True)])
    assert showing.accuracy == pytest.approx(equal)


def test_the_model_is_far_better_than_the_commonest_type(showing):
    commonest = max(figures.cells for figures in showing.types.values()) / 700
    assert showing.accuracy > commonest + 0.3
    assert showing.neighbour_accuracy > commonest + 0.3


def test_the_command_prints_figures_and_the_card(capsys, monkeypatch, showing):
    monkeypatch.setattr(showcase, "can_draw", lambda: False)
    assert cli.run(["demo"]) == 0
    out = capsys.readouterr().out
    assert f"{showing.accuracy:.3f}" in out
    assert f"{showing.neighbour_accuracy:.3f}" in out
    assert str(demo.MODEL_CARD) in out
    assert 'pip install "scgpt-infer[report]"' in out
    assert cli.run(["demo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == showing.accuracy


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("umap") is None, reason="needs the report extra")
@pytest.mark.filterwarnings("ignore")  # umap and what it brings along warn of their own affairs
def test_a_picture_is_drawn(showing, tmp_path):
    picture = tmp_path / "new" / "umap.png"
    showcase.draw(showing, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_verdict_names_the_better_pca_and_counts_ties_as_no_win():
    figures = [
        showcase.Judged("one", 10, 0.9, 0.9, within=0.9, within_pca=0.9, across=0.8, across_pca=0.7),
        showcase.Judged("two", 10, 0.9, 0.9, within=0.5, within_pca=0.6, across=0.8, across_pca=0.9),
    ]
    assert "in 1 of 4" in showcase.verdict(figures)


def test_neighbours_are_set_beside_the_better_of_the_two_pcas():
    told = json.loads(demo.FIGURES.read_text())["judged"]
    for found in showcase.judged():
        within = told[found.name]["within"]
        assert found.within_pca == max(within["pca"]["accuracy"], within["pca_all_genes"]["accuracy"])
