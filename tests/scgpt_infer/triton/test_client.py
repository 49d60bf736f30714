"""The client that is written beside a model: by the written graphs, the vectors and types of scgpt-infer itself."""

import importlib.util
import json
import sys

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

import scgpt_infer
from scgpt_infer import AnnotateOptions
from scgpt_infer.models import resolve
from scgpt_infer.options import EmbedOptions
from scgpt_infer.triton import TritonOptions, write_repository

ON_PROCESSOR = EmbedOptions(provider="cpu", precision="fp32")


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Cells of many lengths, one of them without counts, as a file and in memory."""
    rng = np.random.default_rng(3)
    genes = [name for name in resolve("demo").vocabulary().tokens if not name.startswith("<")][:900]
    share = np.linspace(0.01, 0.9, 11)[:, None]
    counts = rng.poisson(3.0, (11, 900)) * (rng.random((11, 900)) < share)
    counts[4] = 0
    adata = ad.AnnData(sparse.csr_matrix(counts.astype(np.float32)))
    adata.var_names, adata.obs_names = genes, [f"cell-{i}" for i in range(11)]
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    adata.write_h5ad(path)
    return path, adata


def run(folder, stand, monkeypatch, *words: str) -> None:
    """Run the written client.py as its user does, with a stand-in for the server."""
    import tritonclient.http

    monkeypatch.setattr(tritonclient.http, "InferenceServerClient", lambda url: stand)
    monkeypatch.setattr(sys, "argv", ["client.py", *words])
    spec = importlib.util.spec_from_file_location("triton_client_of_test", folder / "client.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main()


def test_vectors_by_the_written_graph_are_those_of_embed(written, stand, cells, tmp_path, monkeypatch, capsys):
    path, adata = cells
    server = stand(written.models["demo"].parent)
    run(written.models["demo"], server, monkeypatch, str(path), "-o", str(tmp_path / "x.npy"), "--cells-at-once", "3")
    found = np.load(tmp_path / "x.npy")
    whole = scgpt_infer.embed(adata, model="demo", provider="cpu", precision="fp32")
    expected = whole.obsm["X_scGPT_demo"]
    assert np.isnan(found[4]).all()
    assert np.abs(np.delete(found, 4, 0) - np.delete(expected, 4, 0)).max() < 1e-5
    assert capsys.readouterr().out == "cell-4: all values are zero\n"
    shapes = [told["ids"] for _, told in server.requests]
    assert len(shapes) > 1
    assert all(cells <= 3 and length % 32 == 0 for cells, length in shapes)


def test_types_by_the_ensemble_are_those_of_annotate(written, stand, cells, tmp_path, monkeypatch):
    path, adata = cells
    server = stand(written.models["demo"].parent)
    run(written.models["demo"], server, monkeypatch, str(path), "-o", str(tmp_path / "x.npy"), "--model", "demo_types")
    told = scgpt_infer.annotate(adata, model="demo", how=AnnotateOptions(unknown_below=0.0), options=ON_PROCESSOR)
    types = json.loads((tmp_path / "x.types.json").read_text())
    assert types[4] is None
    expected = told.obs["scgpt_label"].astype(object)
    assert types[:4] + types[5:] == [*expected.iloc[:4], *expected.iloc[5:]]


def test_a_client_of_another_model_is_refused(written, stand, cells, tmp_path, monkeypatch, toy_model):
    path, _ = cells
    other = write_repository(resolve(toy_model), tmp_path / "models", TritonOptions(name="demo"))
    with pytest.raises(SystemExit, match="is not the model"):
        run(
            other.models["demo"],
            stand(written.models["demo"].parent),
            monkeypatch,
            str(path),
            "-o",
            str(tmp_path / "x"),
        )


def test_no_more_cells_go_at_once_than_the_model_takes(stand, cells, tmp_path, monkeypatch):
    path, _ = cells
    models = write_repository(resolve("demo"), tmp_path / "models", TritonOptions(max_batch=2, kind="cpu")).models
    server = stand(tmp_path / "models")
    run(models["demo"], server, monkeypatch, str(path), "-o", str(tmp_path / "x.npy"))
    assert max(told["ids"][0] for _, told in server.requests) == 2


def test_cells_without_a_known_gene_alone_have_rows_of_nan(written, stand, cells, tmp_path, monkeypatch, capsys):
    _, adata = cells
    strange = adata[:2].copy()
    strange.var_names = [f"gene-{number}" for number in range(strange.n_vars)]
    strange.write_h5ad(tmp_path / "strange.h5ad")
    server = stand(written.models["demo"].parent)
    run(written.models["demo"], server, monkeypatch, str(tmp_path / "strange.h5ad"), "-o", str(tmp_path / "x.npy"))
    found = np.load(tmp_path / "x.npy")
    assert found.shape == (2, 64)
    assert np.isnan(found).all()
    assert capsys.readouterr().out.count("none of its expressed genes") == 2


def test_a_model_without_vectors_is_refused(written, stand, cells, tmp_path, monkeypatch):
    path, _ = cells
    server = stand(written.models["demo"].parent)
    words = [str(path), "-o", str(tmp_path / "x"), "--model", "demo_classify"]
    with pytest.raises(SystemExit, match="demo_classify takes cell and gives logits"):
        run(written.models["demo"], server, monkeypatch, *words)
