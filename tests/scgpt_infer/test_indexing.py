"""Labelled cells of a file become a reference index: who is in it, with which vectors, and who is not."""

import dataclasses
import json
import os
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scgpt_infer.annotating import AnnotateOptions
from scgpt_infer.api import annotate, embed_file
from scgpt_infer.indexing import index_file
from scgpt_infer.job import Job
from scgpt_infer.options import EmbedOptions
from scgpt_infer.reference import IndexManifest, ReferenceIndex, approximate
from scgpt_runtime.errors import CellsError, DeviceLostError, MissingDependencyError, OptionError, OutputError

DATA = os.environ.get("SCGPT_INFER_DATA")
FP32 = EmbedOptions(provider="cpu", precision="fp32")


@pytest.fixture
def labelled_h5ad(toy_adata, tmp_path):
    """1,100 cells: every tenth has no label, cell 5 cannot be embedded."""
    kinds = np.array(["T cell", "B cell"], object)[np.arange(1100) % 2]
    kinds[::10] = np.nan
    toy_adata.obs["cell_type"] = pd.Categorical(kinds)
    toy_adata.obs["nothing"] = pd.Categorical([np.nan] * 1100, categories=["x"])
    toy_adata.write_h5ad(tmp_path / "labelled.h5ad")
    return tmp_path / "labelled.h5ad"


def test_labelled_cells_with_a_vector_are_indexed(toy_model, labelled_h5ad, tmp_path):
    summary = index_file(labelled_h5ad, tmp_path / "ref.index", toy_model, "cell_type", FP32)
    assert (summary.n_indexed, sum(summary.left_out.values()), summary.n_without_vector) == (989, 110, 1)
    assert summary.counts == {"B cell": 549, "T cell": 440}
    assert (summary.kind, summary.recall, summary.options) == ("exact", None, {})
    index = ReferenceIndex.open(tmp_path / "ref.index")
    index.check(summary.embedded.vector_id)
    assert summary.sha256 == index.manifest.digest
    assert index.manifest.origin.precision == "fp32"
    assert index.manifest.origin.settings["max_length"] == summary.embedded.max_length
    embed_file(labelled_h5ad, tmp_path / "vectors.npy", toy_model, FP32)
    kept = [row for row in range(1100) if row % 10 and row != 5]
    np.testing.assert_array_equal(index.vectors, np.load(tmp_path / "vectors.npy")[kept])
    assert index.cell_names(np.arange(3)) == ["cell-1", "cell-2", "cell-3"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_limit_takes_the_first_cells(toy_model, labelled_h5ad, tmp_path):
    options = EmbedOptions(provider="cpu", precision="fp32", limit=20)
    summary = index_file(labelled_h5ad, tmp_path / "ref.index", toy_model, "cell_type", options)
    assert (summary.embedded.n_cells, summary.n_indexed, sum(summary.left_out.values())) == (20, 17, 2)


def test_cells_that_are_not_wanted_are_left_out(toy_model, labelled_h5ad, tmp_path):
    summary = index_file(
        labelled_h5ad,
        tmp_path / "ref.index",
        toy_model,
        "kind",
        FP32,
        ignore=("b",),
        exclude=(("cell_type", "B cell"),),
    )
    cells = ad.read_h5ad(labelled_h5ad).obs
    good = (cells["kind"] == "a") & (cells["cell_type"] != "B cell")
    assert summary.n_indexed == good.sum()
    assert summary.counts == {"a": good.sum()}
    assert "550 cells: label b is ignored" in summary.report()
    with pytest.raises(OptionError, match=r"--ignore \(ignore\) names 'c', which no cell has"):
        index_file(labelled_h5ad, tmp_path / "other", toy_model, "kind", FP32, ignore=("c",))


def test_vectors_that_lie_with_the_cells_are_taken(toy_model, labelled_h5ad, tmp_path, monkeypatch):
    embed_file(labelled_h5ad, tmp_path / "embedded.h5ad", toy_model, FP32)
    index_file(labelled_h5ad, tmp_path / "one", toy_model, "cell_type", FP32)
    monkeypatch.setattr("scgpt_infer.model.Engine.open", lambda *words, **more: pytest.fail("the model was opened"))
    index_file(tmp_path / "embedded.h5ad", tmp_path / "other", toy_model, "cell_type", FP32)
    assert IndexManifest.read(tmp_path / "one") == IndexManifest.read(tmp_path / "other")


def test_cells_in_memory_are_indexed(toy_model, labelled_h5ad, tmp_path):
    cells = ad.read_h5ad(labelled_h5ad)
    index_file(cells, tmp_path / "one", toy_model, "cell_type", FP32)
    index_file(labelled_h5ad, tmp_path / "other", toy_model, "cell_type", FP32)
    assert IndexManifest.read(tmp_path / "one") == IndexManifest.read(tmp_path / "other")


def test_the_recall_of_an_approximate_index_is_told(toy_model, labelled_h5ad, tmp_path):
    pytest.importorskip("faiss")
    summary = index_file(labelled_h5ad, tmp_path / "ref.index", toy_model, "cell_type", FP32, kind="hnsw")
    assert summary.recall is not None
    assert f"{summary.recall.share:.2%} of the 10 nearest cells are found" in summary.report()
    assert json.loads(summary.to_json())["recall"] == dataclasses.asdict(summary.recall)
    assert "factory HNSW32,SQ8" in summary.report()


@pytest.mark.parametrize(("label", "told"), [("cell_typ", "cell_type"), ("nothing", "1,100 cells: no label")])
def test_a_column_that_cannot_be_used_shows_before_the_work(
    toy_model, labelled_h5ad, tmp_path, monkeypatch, label, told
):
    monkeypatch.setattr("scgpt_infer.model.Model.open", lambda *words, **more: pytest.fail("the model was opened"))
    with pytest.raises(CellsError, match=told):
        index_file(labelled_h5ad, tmp_path / "ref.index", toy_model, label, FP32)
    assert not (tmp_path / "ref.index").exists()


def test_what_is_missing_shows_before_the_work(toy_model, labelled_h5ad, tmp_path, monkeypatch):
    monkeypatch.setattr("scgpt_infer.model.Model.open", lambda *words, **more: pytest.fail("the model was opened"))
    monkeypatch.setattr(approximate, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="faiss"):
        index_file(labelled_h5ad, tmp_path / "ref.index", toy_model, "cell_type", FP32, kind="hnsw")
    with pytest.raises(OutputError, match="exists already"):
        index_file(labelled_h5ad, tmp_path, toy_model, "cell_type", FP32)


def test_a_device_that_is_lost_leaves_nothing_and_says_how_to_keep_rows(
    toy_model, labelled_h5ad, tmp_path, monkeypatch
):
    def lost(*words, **more):
        raise DeviceLostError("GPU 0 stopped working.")

    monkeypatch.setattr(Job, "into_file", lost)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DeviceLostError, match=r"GPU 0 stopped working\. Nothing was indexed.*scgpt-infer embed"):
        index_file(labelled_h5ad, tmp_path / "ref.index", toy_model, "cell_type", FP32)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.data
@pytest.mark.skipif(DATA is None, reason="SCGPT_INFER_DATA names no folder of real data")
def test_real_cells_get_the_labels_of_their_nearest_of_another_half(tmp_path):
    cells = ad.read_h5ad(Path(str(DATA)) / "pbmc3k_labelled.h5ad")
    known, asked = cells[::2].copy(), cells[1::2].copy()
    index_file(known, tmp_path / "ref.index", "demo", "cell_type")
    told = annotate(asked, model="demo", how=AnnotateOptions(reference=tmp_path / "ref.index"))
    right = told.obs["scgpt_label"].astype(str) == asked.obs["cell_type"].astype(str)
    assert right.mean() > 0.8  # 0.85, of the demo model
    sure = told.obs["scgpt_confidence"] == 1
    assert right[sure].mean() > right.mean()
