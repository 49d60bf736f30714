import hashlib
import json
import re

import anndata
import numpy as np
import pytest

from scgpt_infer import demo
from scgpt_infer.showcase import show
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.manifest import STATIC, Manifest
from scgpt_runtime.providers import obstacle
from scgpt_runtime.verify import verify
from scgpt_runtime.vocab import match

GOLDEN = "demo_vectors.npz"


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return Bundle.open(demo.BUNDLE).manifest


@pytest.fixture(scope="module")
def cells() -> anndata.AnnData:
    return anndata.read_h5ad(demo.CELLS)


def test_model_and_cells_fit_into_six_megabytes():
    files = [path for path in demo.FOLDER.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) <= 6_000_000


def test_cells_are_counts_with_labels_origin_and_licence(cells):
    assert cells.n_obs == 700
    assert np.issubdtype(cells.X.dtype, np.integer)
    assert cells.X.min() >= 0
    assert cells.X.sum(axis=1).min() > 0
    assert set(cells.obs[demo.LABEL_COLUMN]) == set(demo.TYPES)
    assert "BSD-3" in cells.uns["licence"]
    assert "Zheng" in cells.uns["source"]


def test_every_answer_in_the_label_table_is_one_the_model_gives(manifest):
    assert {answer for _, answers in demo.TYPES.values() for answer in answers} <= set(manifest.labels)


def test_an_answer_agrees_with_one_main_type_only():
    owners = {}
    for main, answers in demo.TYPES.values():
        for answer in answers:
            assert owners.setdefault(answer, main) == main


def test_bundle_names_itself_its_key_its_licence_and_its_data(manifest):
    assert manifest.name == "demo"
    assert manifest.key == demo.KEY != "X_scGPT"
    assert manifest.licence
    assert "GSE96583" in manifest.provenance
    assert set(manifest.precisions) == {"fp32", "fp16", "int8"}


def test_nearly_all_genes_of_the_cells_are_known(cells):
    assert match(list(cells.var_names), Bundle.open(demo.BUNDLE).vocabulary()).fraction > 0.9


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_bundle_proves_itself_on_this_machine(precision):
    for result in verify(Bundle.open(demo.BUNDLE), "cpu", precision):
        assert result.passed, result


def test_static_int8_proves_itself_on_openvino_under_its_own_id(manifest):
    if obstacle("openvino"):
        pytest.skip("OpenVINO cannot run here")
    bundle = Bundle.open(demo.BUNDLE)
    (result,) = verify(bundle, "openvino", "int8")
    assert result.passed, result
    with Engine.open(bundle, EngineOptions(provider="openvino", precision="int8")) as engine:
        assert engine.vector_id == manifest.vector_ids[STATIC]


def test_shown_figures_are_those_of_the_card():
    told = json.loads(demo.FIGURES.read_text(encoding="utf-8"))["judged"]["shipped cells"]["classifier"]
    shown = show()
    assert shown.accuracy == pytest.approx(told["accuracy"], abs=0.005)
    assert shown.macro_f1 == pytest.approx(told["macro_f1"], abs=0.02)


def test_card_has_every_figure_and_its_first_line_hides_no_defeat():
    card = demo.MODEL_CARD.read_text(encoding="utf-8")
    judged = json.loads(demo.FIGURES.read_text(encoding="utf-8"))["judged"]
    lost = 0
    for figures in judged.values():
        for part in (figures["classifier"], *figures["within"].values()):
            assert f"{part['accuracy']:.3f} | {part['macro_f1']:.3f}" in card
        for type_name, row in figures["classifier"]["types"].items():
            assert re.search(rf"^\| {re.escape(type_name)} \| {row['support']:,} \|", card, re.MULTILINE)
        for way in ("within", "across"):
            accuracy = {key: figures[way][key]["accuracy"] for key in ("embedding", "pca", "pca_all_genes")}
            lost += accuracy["embedding"] <= max(accuracy["pca"], accuracy["pca_all_genes"])
    assert ("does not beat PCA" in card.splitlines()[0]) == (lost > 0)


def test_static_int8_was_calibrated_on_shipped_cells_and_the_card_judges_every_precision(manifest):
    (calibration,) = manifest.calibration
    assert calibration.sha256 == hashlib.sha256(demo.CELLS.read_bytes()).hexdigest()
    assert 200 < calibration.cells <= 300
    card = demo.MODEL_CARD.read_text(encoding="utf-8")
    compared = json.loads(demo.FIGURES.read_text(encoding="utf-8"))["precisions"]["compared"]
    assert "shipped cells" not in compared
    for figures in compared.values():
        assert {row["precision"] for row in figures["rows"]} >= {"fp32", "fp16", "int8"}
        for row in figures["rows"]:
            assert row["vector_id"] in manifest.vector_ids.values() or row["precision"] == "bf16"
            line = f"| {row['provider']} | {row['precision']} | {row['median']:.1e} | {row['worst']:.1e} |"
            assert f"{line} {row['neighbours']:.3f} |" in card


def test_figures_are_of_the_vectors_that_ship(manifest):
    assert json.loads(demo.FIGURES.read_text(encoding="utf-8"))["vector_ids"] == manifest.vector_ids


def test_canonical_vectors_are_as_published(golden_files, manifest):
    """Changing these is a breaking change: vectors that people stored would no longer compare."""
    published = np.load(golden_files / GOLDEN)
    assert {name: str(published[f"vector_id_{name}"]) for name in manifest.vector_ids} == manifest.vector_ids
    vectors = show().vectors[published["rows"]]
    np.testing.assert_allclose(vectors, published["vectors"], atol=1e-5, rtol=0)
