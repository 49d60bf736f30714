"""multiomic: the same cells give the same answers however they come; predictions, refusals, and every output."""

import json
import warnings
from dataclasses import replace

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft202012Validator
from scipy import sparse

from scgpt_infer import EmbedOptions, schema
from scgpt_infer.integration import IntegrateOptions
from scgpt_infer.multiomics import MultiomicOptions, multiomic, multiomic_file, multiomic_json
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.errors import BundleError, CellsError, GenesError, OptionError
from tests.cell_files import write_h5mu
from tests.scgpt_infer.multiomics.conftest import N_CELLS, PEAKS, PROTEINS

RUN = EmbedOptions(provider="cpu", threads=1, min_match=0)
DAYS = IntegrateOptions("day")


def together(parts: dict[str, ad.AnnData], **chosen: ad.AnnData) -> mudata.MuData:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mudata.MuData({**parts, **chosen})


def vectors(cells: ad.AnnData) -> np.ndarray:
    return cells.obsm["X_scGPT"]


def test_ids_beyond_16_bits_reach_the_model(wide_model, parts):
    bundle = Bundle.open(wide_model)
    assert len(bundle.vocabulary()) > 0xFFFF
    assert {spec.dtype for spec in bundle.manifest.graphs[0].inputs if spec.name == "ids"} == {"uint32"}
    found = multiomic(parts["rna"], model=wide_model, options=RUN)
    assert np.allclose(np.linalg.norm(vectors(found), axis=1), 1, atol=1e-6)
    # the last genes are told apart: another order of their counts is another cell
    other = parts["rna"].copy()
    other.X = other.X[:, ::-1]
    assert not np.allclose(vectors(multiomic(other, model=wide_model, options=RUN)), vectors(found), atol=1e-3)


def test_one_cell_has_one_vector_however_its_modalities_are_stored(model, parts, cite, tmp_path):
    two = {name: parts[name] for name in ("rna", "prot")}
    expected = vectors(multiomic(cite, model=model, options=RUN))
    cite.write_h5ad(tmp_path / "cite.h5ad")
    write_h5mu(two, tmp_path / "cite.h5mu")
    side_by_side = ad.concat([two["prot"], two["rna"]], axis=1, merge="first")
    side_by_side.var["feature_types"] = ["Antibody Capture"] * len(PROTEINS) + ["Gene Expression"] * two["rna"].n_vars
    array = cite.copy()
    array.obsm["protein_counts"] = cite.obsm["protein_counts"].to_numpy()
    array.uns["protein_counts_names"] = PROTEINS
    for cells in (tmp_path / "cite.h5ad", tmp_path / "cite.h5mu", together(two), side_by_side, array):
        np.testing.assert_array_equal(vectors(multiomic(cells, model=model, options=RUN)), expected)


def test_a_cell_without_one_modality_has_the_others(model, parts):
    fewer, whole = parts["prot"][10:].copy(), multiomic(together(parts), model=model, options=RUN)
    partly = multiomic(together(parts, prot=fewer), model=model, options=RUN)
    names = partly.obs_names.get_indexer(whole.obs_names)
    np.testing.assert_array_equal(vectors(partly)[names][10:], vectors(whole)[10:])
    assert np.isfinite(vectors(partly)).all()
    assert not np.allclose(vectors(partly)[names][:10], vectors(whole)[:10], atol=1e-4)


def test_vectors_of_each_modality_alone_are_those_of_cells_that_have_no_other(model, parts):
    both = multiomic(together(parts), model=model, how=MultiomicOptions(alone=True), options=RUN)
    for name, own in {"RNA": "rna", "Protein": "prot", "ATAC": "atac"}.items():
        how = MultiomicOptions({name: own})
        alone = vectors(multiomic(together({own: parts[own]}), model=model, how=how, options=RUN))
        np.testing.assert_allclose(both.obsm[f"X_scGPT_{name}"], alone, atol=1e-6)


@pytest.mark.parametrize("source", ["embedding", "tokens"])
def test_proteins_are_predicted_from_rna_alone(model, parts, cite, source):
    def ask(cells: ad.AnnData, *names: str, **pairs: str) -> ad.AnnData:
        how = MultiomicOptions(pairs, names, source, batches=DAYS)
        return multiomic(cells, model=model, how=how, options=RUN)

    found = ask(parts["rna"], "Protein", "RNA:G3", PEAKS[-1])
    assert found.uns["X_scGPT_Protein_predicted_names"].tolist() == PROTEINS
    assert found.uns["X_scGPT_RNA_predicted_names"].tolist() == ["G3"]
    values = found.obsm["X_scGPT_Protein_predicted"]
    assert values.shape == (N_CELLS, len(PROTEINS))
    assert np.isfinite(values).all()
    assert values.std(axis=0).min() > 0
    nonzero = found.obsm["X_scGPT_Protein_nonzero"]
    assert ((nonzero > 0) & (nonzero < 1)).all()
    if source == "embedding":  # one question has no part in another; among tokens, all that is asked is hidden
        alone = ask(cite, "CD4", RNA="X").obsm["X_scGPT_Protein_predicted"]
        np.testing.assert_allclose(alone[:, 0], values[:, 4], atol=1e-5)
        return
    hidden = ask(parts["rna"], "Protein").obsm["X_scGPT_Protein_predicted"]
    np.testing.assert_allclose(ask(cite, "Protein").obsm["X_scGPT_Protein_predicted"], hidden, atol=1e-5)


def test_the_batch_of_a_cell_changes_what_is_predicted_and_not_its_vector(model, parts):
    cells = parts["rna"].copy()
    cells.obs["other"] = ["day2", "day1"] * (N_CELLS // 2 - 1) + ["day2", ""]
    one, two = (
        multiomic(
            cells,
            model=model,
            how=MultiomicOptions(predict=("CD1",), batches=IntegrateOptions(column)),
            options=RUN,
        )
        for column in ("day", "other")
    )
    np.testing.assert_array_equal(vectors(one), vectors(two))
    told = [found.obsm["X_scGPT_Protein_predicted"] for found in (one, two)]
    assert np.isnan(told[1][-1]).all()
    assert np.isfinite(told[1][:-1]).all()
    assert not np.allclose(told[0][:-1], told[1][:-1], atol=1e-4)


@pytest.mark.parametrize("source", ["embedding", "tokens"])
def test_the_company_and_order_of_cells_do_not_show(model, cite, source):
    def ask(cells: ad.AnnData, length: int) -> list[np.ndarray]:
        how = MultiomicOptions({}, ("Protein", "G1"), source, alone=True, batches=DAYS)
        options = EmbedOptions(provider="cpu", threads=1, batch_tokens=length)
        found = multiomic(cells, model=model, how=how, options=options).obsm
        return [found[name] for name in sorted(found) if name.startswith("X_scGPT")]

    order = np.random.default_rng(0).permutation(N_CELLS)
    for whole, part in zip(ask(cite, 2000), ask(cite[order[:11]].copy(), 10), strict=True):
        np.testing.assert_allclose(part, whole[order[:11]], atol=1e-5)


def test_json_keeps_to_the_schema_and_tells_what_was_read(model, parts, tmp_path):
    cells = parts["rna"].copy()
    cells.X = sparse.csr_matrix(cells.X.toarray() * (np.arange(N_CELLS) != 3)[:, None])
    cells.write_h5ad(tmp_path / "cells.h5ad")
    how = MultiomicOptions({}, ("CD1", "CD2"), alone=True, batches=DAYS)
    for name in ("a.json", "b.jsonl"):
        multiomic_file(tmp_path / "cells.h5ad", tmp_path / name, model, how, RUN)
    assert multiomic_json(cells, model=model, how=how, options=RUN) == (tmp_path / "a.json").read_text()
    document = json.loads((tmp_path / "a.json").read_text())
    Draft202012Validator(schema.schema()).validate(document)
    assert document["kind"] == "multimodal"
    assert document["run"]["multiomic_modalities"] == "RNA=X"
    assert document["cells"][3] == {
        "cell": "cell-3", "row": 3, "error": "all values are zero", "embedding": None, "modalities": None,
    }  # fmt: skip
    cell = document["cells"][0]
    assert cell["modalities"]["Protein"]["features"] == ["CD1", "CD2"]
    assert cell["modalities"]["Protein"]["predicted"] is True
    np.testing.assert_allclose(cell["modalities"]["RNA"]["embedding"], cell["embedding"], atol=1e-6)
    lines = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    assert lines == document["cells"]


def test_tables_hold_the_same_numbers(model, parts, tmp_path):
    parts["rna"].write_h5ad(tmp_path / "cells.h5ad")
    how = MultiomicOptions({}, ("Protein",), alone=True, batches=DAYS)
    files = {suffix: tmp_path / f"out{suffix}" for suffix in (".h5ad", ".csv", ".parquet")}
    for path in files.values():
        told = multiomic_file(tmp_path / "cells.h5ad", path, model, how, RUN)
    assert told.modalities == {"RNA": ("X", 42, 40)}
    assert told.predicted == {"Protein": 9}
    assert told.not_read == ()
    values = ad.read_h5ad(files[".h5ad"]).obsm["X_scGPT_Protein_predicted"]
    for table in (pd.read_csv(files[".csv"]), pd.read_parquet(files[".parquet"])):
        np.testing.assert_allclose(table[[f"Protein:{name}" for name in PROTEINS]], values, rtol=1e-6)
        assert table[[f"Protein:{name}:nonzero" for name in PROTEINS]].shape == (N_CELLS, 9)
    with pytest.raises(Exception, match="npy holds vectors alone"):
        multiomic_file(tmp_path / "cells.h5ad", tmp_path / "out.npy", model, how, RUN)


@pytest.mark.parametrize("in_file", [True, False])
def test_tables_of_an_earlier_run_do_not_stay_beside_other_vectors(model, parts, tmp_path, in_file):
    cells, path = parts["rna"].copy(), tmp_path / "cells.h5ad"
    cells.obsm["X_scGPT_mine"] = np.ones((N_CELLS, 2), np.float32)
    cells.write_h5ad(path)
    found = cells
    for how in (MultiomicOptions({}, ("Protein",), alone=True, batches=DAYS), MultiomicOptions()):
        if in_file:
            multiomic_file(path, None, model, how, replace(RUN, in_place=True))
            found = ad.read_h5ad(path)
        else:
            multiomic(cells, model=model, how=how, options=RUN, inplace=True)
        if how.predict:
            assert {"X_scGPT_RNA", "X_scGPT_Protein_predicted", "X_scGPT_Protein_nonzero"} <= set(found.obsm)
    assert set(found.obsm) == {"X_scGPT", "X_scGPT_mine"}
    assert not [name for name in found.uns if name.endswith("_names")]


def test_tables_under_another_key_stay(model, parts):
    cells = parts["rna"].copy()
    for key, how in (
        ("X_scGPT_a", MultiomicOptions(alone=True)),
        ("X_scGPT_b", MultiomicOptions()),
        ("X_scGPT_a", MultiomicOptions()),
    ):
        multiomic(cells, model=model, how=how, options=replace(RUN, key=key), inplace=True)
        assert ("X_scGPT_a_RNA" in cells.obsm) == (how.alone or key == "X_scGPT_b")


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        (MultiomicOptions({"RNA": "gex"}), CellsError, "no modality 'gex'.* has X, protein_counts; .* ATAC, Protein"),
        (MultiomicOptions({"Methylation": "X"}), OptionError, "'Methylation'; it has ATAC, Protein, RNA"),
        (MultiomicOptions({"ATAC": "X"}), GenesError, "X of the cells does not fit ATAC of the model"),
        (MultiomicOptions(predict=("CD99",)), GenesError, "no feature CD99; .* Protein \\(9, such as CD0\\)"),
        (MultiomicOptions(predict=("Protein",)), OptionError, "batch labels. .* obs has day. .*day1, day2"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_what_there_is(model, cite, how, error, said):
    options = EmbedOptions(provider="cpu", threads=1)
    with pytest.raises(error, match=said):
        multiomic(cite, model=model, how=how, options=options)


def test_a_model_of_one_modality_says_so(tiny_bundle, cite):
    with pytest.raises(BundleError, match=r"multiomic needs.*It can embed"):
        multiomic(cite, model=tiny_bundle)


def test_options_are_checked():
    with pytest.raises(OptionError, match="predict_from is 'cell'"):
        MultiomicOptions(predict_from="cell")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="twice"):
        MultiomicOptions({"RNA": "x", "Protein": "x"})


def test_verify_holds_for_modalities(model):
    from scgpt_runtime.verify import verify

    (found,) = verify(Bundle.open(model), precision="fp32", provider="cpu")
    assert found.passed
