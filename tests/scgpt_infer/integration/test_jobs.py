"""Integration of cells: the contract, what is recorded, what is refused."""

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

import scgpt_infer as si
import toy_bundle
from scgpt_infer.integration import IntegrateOptions, integrate_file, integrate_json
from scgpt_infer.ledger.plan import Plan
from scgpt_infer.spans import Shard
from scgpt_infer.work import WorkOptions
from scgpt_runtime.errors import BundleError, CellsError, MissingDependencyError, OptionError, OutputError

OPTIONS = si.EmbedOptions(provider="cpu", precision="fp32")
NO_DAY, EMPTY = 7, 5
TOLERANCE = 2e-6


def vectors(cells: ad.AnnData, model: Path, how=None, **changes) -> np.ndarray:
    how = how or IntegrateOptions("day")
    options = si.EmbedOptions(provider="cpu", precision="fp32", **changes)
    return si.integrate(cells, model=model, how=how, options=options).obsm["X_scGPT"]


def test_each_cell_is_answered_with_its_own_batch(cells, labelled_model):
    found = vectors(cells, labelled_model)
    for number, day in enumerate(toy_bundle.BATCHES):
        alone = cells.copy()
        alone.obs["day"] = day  # every cell of one batch: another file, the same cell and batch
        rows = np.flatnonzero((cells.obs["day"] == day).to_numpy())
        rows = rows[rows != EMPTY]
        np.testing.assert_allclose(found[rows], vectors(alone, labelled_model)[rows], atol=TOLERANCE)
        other = alone.copy()
        other.obs["day"] = toy_bundle.BATCHES[number - 1]
        assert np.abs(vectors(other, labelled_model)[rows] - found[rows]).max() > 100 * TOLERANCE


def test_same_cell_and_batch_same_vector_in_any_order_company_and_batch_size(cells, labelled_model):
    expected = vectors(cells, labelled_model)
    order = np.random.default_rng(3).permutation(cells.n_obs)
    np.testing.assert_allclose(vectors(cells[order].copy(), labelled_model), expected[order], atol=TOLERANCE)
    np.testing.assert_array_equal(vectors(cells, labelled_model, limit=1024), expected[:1024])  # whole row ranges
    np.testing.assert_allclose(vectors(cells[100:130].copy(), labelled_model), expected[100:130], atol=TOLERANCE)
    np.testing.assert_allclose(vectors(cells, labelled_model, batch_tokens=1), expected, atol=TOLERANCE)
    np.testing.assert_array_equal(vectors(cells, labelled_model), expected)


def test_a_cell_without_a_batch_is_a_bad_cell_and_an_empty_one_keeps_its_own_reason(file, labelled_model, tmp_path):
    found = integrate_file(file, tmp_path / "out.h5ad", labelled_model, IntegrateOptions("day"), OPTIONS)
    told = {cell.row: cell.reason for cell in found.summary.bad}
    assert told == {EMPTY: "all values are zero", NO_DAY: "it has no batch"}
    assert np.isnan(ad.read_h5ad(tmp_path / "out.h5ad").obsm["X_scGPT"][NO_DAY]).all()


def test_the_fallback_gives_what_the_known_batch_gives(cells, labelled_model):
    named = vectors(cells, labelled_model)
    cells.obs["day"] = cells.obs["day"].replace("day2", "lane7")
    with pytest.raises(CellsError, match="lane7"):
        vectors(cells, labelled_model)
    fallen = vectors(cells, labelled_model, IntegrateOptions("day", batch_fallback="day2"))
    np.testing.assert_array_equal(np.delete(fallen, NO_DAY, 0), np.delete(named, NO_DAY, 0))
    assert np.isfinite(fallen[NO_DAY]).all()
    mapped = vectors(cells, labelled_model, IntegrateOptions("day", batch_map={"lane7": "day2"}))
    np.testing.assert_array_equal(mapped, named)


def test_the_record_tells_column_rule_and_fallback(file, labelled_model, tmp_path):
    how = IntegrateOptions("day", batch_fallback="day1", batch_statistics="first")
    found = integrate_file(file, tmp_path / "out.h5ad", labelled_model, how, OPTIONS)
    record = ad.read_h5ad(tmp_path / "out.h5ad").uns["scgpt_infer"]
    assert (record["batch_column"], record["batch_statistics"], record["batch_fallback"]) == ("day", "first", "day1")
    assert record["n_by_fallback"] == 1
    assert record["vector_id"] == found.summary.vector_id
    told = json.loads(found.to_json())
    assert sum(told["batches"]["cells"].values()) == told["n_cells"]


def test_a_document_in_memory_is_the_file(cells, file, labelled_model, tmp_path):
    integrate_file(file, tmp_path / "out.json", labelled_model, IntegrateOptions("day"), OPTIONS)
    found = integrate_json(cells, model=labelled_model, how=IntegrateOptions("day"), options=OPTIONS)
    assert found == (tmp_path / "out.json").read_text()
    assert len(json.loads(found)["cells"]) == cells.n_obs
    with pytest.raises(OptionError, match="Scores are for files"):
        integrate_json(cells, model=labelled_model, how=IntegrateOptions("day", label="kind"), options=OPTIONS)


def test_the_originals_rule_makes_other_vectors_under_another_id(file, labelled_model, tmp_path):
    runs = {}
    for rule in ("cell", "first"):
        how, path = IntegrateOptions("day", batch_statistics=rule), tmp_path / f"{rule}.npy"
        runs[rule] = integrate_file(file, path, labelled_model, how, OPTIONS).summary.vector_id, np.load(path)
    assert runs["cell"][0] != runs["first"][0]
    days = ad.read_h5ad(file).obs["day"].astype(str).to_numpy()
    moved = np.flatnonzero(np.abs(runs["cell"][1] - runs["first"][1]).max(axis=1) > TOLERANCE)
    assert 0 < len(moved) < 2 * 64  # at most a minibatch at each of two borders
    assert set(days[moved]) <= {"day2", "day3"}


def test_a_model_without_batches_embeds_as_embed_does_and_says_so(file, toy_model, tmp_path):
    zero_shot = integrate_file(file, tmp_path / "a.h5ad", toy_model, IntegrateOptions("day"), OPTIONS)
    plain = si.embed_file(file, tmp_path / "b.h5ad", toy_model, OPTIONS)
    assert zero_shot.batches is None
    assert zero_shot.summary.vector_id == plain.vector_id
    one, two = (ad.read_h5ad(tmp_path / name) for name in ("a.h5ad", "b.h5ad"))
    np.testing.assert_array_equal(one.obsm["X_scGPT"], two.obsm["X_scGPT"])
    assert one.uns["scgpt_infer"]["batch_statistics"] == "none"
    assert one.uns["scgpt_infer"]["batch_column"] == "day"
    with pytest.raises(OptionError, match="has no statistics of batches"):
        integrate_file(file, tmp_path / "c.h5ad", toy_model, IntegrateOptions("day", batch_statistics="first"), OPTIONS)


def test_a_model_with_batches_wants_the_column_and_names_what_there_is(cells, labelled_model):
    with pytest.raises(OptionError, match=r"obs has kind, day.*day1, day2, day3"):
        si.integrate(cells, model=labelled_model)
    with pytest.raises(CellsError, match="no column"):
        si.integrate(cells, model=labelled_model, batch="lane")


@pytest.mark.parametrize("command", [si.embed, si.annotate])
def test_other_commands_send_to_integrate(cells, labelled_model, command):
    with pytest.raises(BundleError, match="integrate"):
        command(cells, model=labelled_model)


def test_nothing_is_written_where_a_batch_is_unknown(file, labelled_model, tmp_path):
    with pytest.raises(CellsError, match="was not trained on"):
        integrate_file(file, tmp_path / "out.h5ad", labelled_model, IntegrateOptions("kind"), OPTIONS)
    assert not (tmp_path / "out.h5ad").exists()


def test_scores_that_cannot_be_had_are_refused_before_the_work(file, labelled_model, tmp_path, monkeypatch):
    monkeypatch.setattr("scgpt_infer.integration.scores.find_spec", lambda name: None)
    how = IntegrateOptions("day", label="kind")
    with pytest.raises(MissingDependencyError, match=r"scgpt-infer\[integrate\]"):
        integrate_file(file, tmp_path / "out.h5ad", labelled_model, how, OPTIONS)
    assert not (tmp_path / "out.h5ad").exists()


def few(cells: ad.AnnData) -> None:
    cells.obs["kind"] = [*["a", "b"] * 20, *[None] * (cells.n_obs - 40)]


def without(cells: ad.AnnData) -> None:
    cells.obs["kind"] = ""


@pytest.mark.parametrize(
    ("change", "ignored", "told"),
    [(few, (), "39 cells can be scored"), (without, (), "0 cells can be scored"), (None, ("b",), "kind has one value")],
)
def test_cells_that_cannot_be_scored_are_refused_before_the_work(
    cells, labelled_model, tmp_path, monkeypatch, change, ignored, told
):
    monkeypatch.setattr("scgpt_infer.integration.jobs.check_installed", lambda: None)
    if change is not None:
        change(cells)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    how = IntegrateOptions("day", label="kind", ignore=ignored)
    with pytest.raises(CellsError, match=told):
        integrate_file(tmp_path / "cells.h5ad", tmp_path / "out.h5ad", labelled_model, how, OPTIONS)
    assert not (tmp_path / "out.h5ad").exists()


def test_what_judges_is_no_part_of_the_work_and_each_other_option_is_named(file, labelled_model, tmp_path):
    output, first, second = tmp_path / "x.npy", WorkOptions(shard=Shard(0, 2)), WorkOptions(shard=Shard(1, 2))
    integrate_file(file, output, labelled_model, IntegrateOptions("day"), OPTIONS, work=first)
    how = IntegrateOptions("day", batch_fallback="day1")
    with pytest.raises(OutputError, match=r"how\.batch_fallback None instead of day1"):
        integrate_file(file, output, labelled_model, how, OPTIONS, work=second)
    assert not {"label", "ignore"} & Plan.read(tmp_path / "x.npy.parts").asked["how"].keys()
