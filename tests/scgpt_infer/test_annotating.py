"""Annotation from end to end: the demo model's classifier on shipped cells, judged, and what cannot be done."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scgpt_infer as si
from scgpt_infer import EmbedOptions, api, demo
from scgpt_infer.annotating import AnnotateOptions
from scgpt_runtime.engine import Engine
from scgpt_runtime.errors import BundleError, CellsError, OptionError

FP32 = EmbedOptions(precision="fp32", provider="cpu", limit=40)
TYPES = {
    "CD14+ Monocyte": "CD14+ monocyte",
    "CD56+ NK": "NK cell",
    "Dendritic": "dendritic cell",
    "CD19+ B": ["B cell"],
}


@pytest.fixture(scope="module")
def cells() -> ad.AnnData:
    found = ad.read_h5ad(demo.CELLS)
    x = found.X.tolil()
    x[3] = 0
    found.X = x.tocsr()
    found.obs["site"] = ["left", "right"] * (found.n_obs // 2)
    return found


@pytest.fixture(scope="module")
def annotated(cells) -> ad.AnnData:
    return api.annotate(cells, model="demo", options=FP32)


@pytest.fixture
def file(cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


def asked(cells):
    """Vectors and probabilities by the engine and the head alone."""
    with api.Model.open("demo", FP32) as model:
        embedded = model.embed(cells)
        from scgpt_runtime.cells import CellBlock
        from scgpt_runtime.vocab import match

        x = cells.X[:40]
        block = CellBlock(x.indptr.astype(np.int64), x.indices.astype(np.int32), x.data.astype(np.float32), 0)
        columns = match(list(cells.var_names), model.engine.vocabulary).columns
        (result,) = model.engine.run([block], columns)
        (logits,) = model.engine.head("classify").feed({"cell": result.outputs["cell"]}).values()
        labels = model.bundle.manifest.labels
    exponents = np.exp(logits.astype(np.float64))
    return embedded, exponents / exponents.sum(axis=1, keepdims=True), labels


def test_labels_and_vectors_of_one_pass(cells, annotated):
    embedded, probabilities, labels = asked(cells)
    np.testing.assert_array_equal(annotated.obsm["X_scGPT_demo"], embedded.obsm["X_scGPT_demo"])
    good = np.arange(40) != 3
    best = np.array(labels)[probabilities[good].argmax(axis=1)]
    assert annotated.obs["scgpt_label_1"][good].tolist() == best.tolist()
    np.testing.assert_allclose(annotated.obs["scgpt_confidence"][good], probabilities[good].max(axis=1), rtol=1e-5)
    assert isinstance(annotated.obs["scgpt_label"].dtype, pd.CategoricalDtype)
    unsure = probabilities[good].max(axis=1) < 0.5
    assert ((annotated.obs["scgpt_label"][good] == "unknown") == unsure).all()
    record = annotated.uns["scgpt_infer"]
    assert record["annotation_from"] == "classifier"
    assert record["annotation_classifier"] == "demo"
    assert len(record["annotation_classifier_sha256"]) == 64
    assert record["annotation_unknown_below"] == 0.5
    assert record["n_without_embedding"] == 1


def test_a_cell_without_a_vector_has_no_label(annotated):
    assert pd.isna(annotated.obs["scgpt_label"].iloc[3])
    assert np.isnan(annotated.obs["scgpt_confidence"].iloc[3])


def test_the_caller_s_object_stays_or_is_added_to(cells):
    few = cells[:10].copy()
    api.annotate(few, model="demo", options=EmbedOptions(precision="fp32", provider="cpu"))
    assert "scgpt_label" not in few.obs
    api.annotate(few, model="demo", options=EmbedOptions(precision="fp32", provider="cpu"), inplace=True)
    assert few.obs["scgpt_label"].notna().sum() == 9


def test_a_file_gets_the_same_answers(file, annotated, tmp_path):
    found = api.annotate_file(file, tmp_path / "out.h5ad", "demo", FP32)
    out = ad.read_h5ad(tmp_path / "out.h5ad")
    assert out.obs["scgpt_label"].astype(object).fillna("").tolist() == (
        annotated.obs["scgpt_label"].astype(object).fillna("").tolist()
    )
    np.testing.assert_array_equal(out.obs["scgpt_confidence"], annotated.obs["scgpt_confidence"])
    assert sum(found.counts.values()) == 39
    assert found.evaluation is None
    told = json.loads(found.to_json())
    assert told["labels"] == found.counts
    assert told["unknown_below"] == 0.5


def test_answers_are_judged_by_the_true_labels(file, tmp_path):
    how = AnnotateOptions(truth="cell_type", by=("site",), names=TYPES, unknown_below=0)
    found = api.annotate_file(file, tmp_path / "out.h5ad", "demo", EmbedOptions(precision="fp32", provider="cpu"), how)
    assert found.evaluation.accuracy > 0.5
    assert {group.value for group in found.evaluation.groups} == {"left", "right"}
    assert json.loads(found.to_json())["evaluation"]["accuracy"] == found.evaluation.accuracy


@pytest.mark.parametrize("how", [AnnotateOptions(truth="nothing"), AnnotateOptions(truth="cell_type", by=("nothing",))])
def test_a_column_that_is_not_there_shows_before_the_work(how, file, tmp_path, monkeypatch):
    monkeypatch.setattr(Engine, "run", lambda *arguments: pytest.fail("the model was run"))
    with pytest.raises(CellsError, match=r"no column 'nothing'; it has .*cell_type"):
        api.annotate_file(file, tmp_path / "out.h5ad", "demo", FP32, how)
    assert not (tmp_path / "out.h5ad").exists()


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (AnnotateOptions(truth="site"), "left, right"),
        (AnnotateOptions(truth="cell_type", names={"CD56+ NK": ["natural killer"]}), "natural killer"),
    ],
)
def test_labels_that_the_model_does_not_know_show_before_the_work(how, told, file, tmp_path, monkeypatch):
    monkeypatch.setattr(Engine, "run", lambda *arguments: pytest.fail("the model was run"))
    with pytest.raises(OptionError, match=told):
        api.annotate_file(file, tmp_path / "out.h5ad", "demo", FP32, how)


def test_a_model_without_a_classifier_says_what_it_holds(toy_adata, toy_model):
    with pytest.raises(BundleError, match=r"toy has no classifier.*it holds embed. Give labelled cells: scgpt-infer"):
        api.annotate(toy_adata, model=toy_model)


def test_a_fine_tuned_classifier_takes_no_unit_vectors(annotated):
    again = annotated.copy()
    del again.obs["scgpt_confidence"]
    found = api.annotate(again, model="demo", options=EmbedOptions(precision="fp32", provider="cpu"))
    np.testing.assert_array_equal(found.obs["scgpt_confidence"], annotated.obs["scgpt_confidence"])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"top": 0}, "top is 0"),
        ({"k": 5}, "k and weights are for a reference"),
        ({"unknown_below": 1.5}, "unknown_below is 1.5"),
        ({"weights": "equal"}, "weights is 'equal'"),
        ({"by": ("donor",)}, "name the column of the right labels"),
        ({"prefix": "a/b"}, "prefix is 'a/b'"),
    ],
)
def test_options_that_cannot_be(settings, told):
    with pytest.raises(OptionError, match=told):
        AnnotateOptions(**settings)


def test_truth_is_for_files(cells):
    with pytest.raises(OptionError, match=r"evaluation\.evaluate"):
        api.annotate(cells[:5].copy(), model="demo", how=AnnotateOptions(truth="site"))


def test_public_names():
    assert si.annotate is api.annotate
    assert si.annotate_file is api.annotate_file
