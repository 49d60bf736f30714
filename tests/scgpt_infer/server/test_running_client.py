"""The Python client against the real server: it gives what the library gives for the same cells."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scgpt_infer as si
from scgpt_infer import demo
from scgpt_infer.client import AsyncClient, Client, JobOptions, RefusedError, forms

CPU = si.EmbedOptions(provider="cpu")


@pytest.fixture(scope="module")
def cells() -> ad.AnnData:
    found = ad.read_h5ad(demo.CELLS)[:120].copy()
    found.X.data[found.X.indptr[3] : found.X.indptr[4]] = 0
    return found


@pytest.fixture(scope="module")
def own(cells) -> ad.AnnData:
    return si.annotate(cells, model="demo", options=CPU)


@pytest.fixture
def client(running) -> Iterator[Client]:
    with Client(running.url, cells_per_request=25) as found:
        yield found


@pytest.mark.parametrize("form", ["arrow", "tensors"])
def test_cells_come_back_as_the_library_gives_them(client, cells, own, form, monkeypatch):
    if form == "tensors":
        monkeypatch.setattr(forms, "find_spec", lambda name: None)
    found = client.annotate(cells)
    np.testing.assert_allclose(found.obsm[demo.KEY], own.obsm[demo.KEY], atol=1e-5)
    pd.testing.assert_frame_equal(found.obs, own.obs, atol=1e-5)
    told, known = found.uns["scgpt_infer"], own.uns["scgpt_infer"]
    differing = {name for name in told if told[name] != known.get(name)}
    assert differing == set()
    assert {"vector_id", "weights_sha256", "gene_col", "n_matched", "n_without_embedding", "counts"} <= told.keys()


def test_an_event_loop_gets_the_same(running, cells, own):
    async def run() -> ad.AnnData:
        async with AsyncClient(running.url, cells_per_request=25) as client:
            return await client.embed(cells)

    found = asyncio.run(run())
    np.testing.assert_allclose(found.obsm[demo.KEY], own.obsm[demo.KEY], atol=1e-5)


def test_one_cell_told_by_its_genes(client):
    found = client.annotate(
        [{"CD3D": 3, "CD3E": 2, "IL7R": 4, "LTB": 1, "TRAC": 2}, {"LYZ": 9, "S100A8": 5, "CST3": 4}]
    )
    own = si.annotate(ad.AnnData(found.X, var=found.var), model="demo", options=CPU)
    assert found.obs["scgpt_label"].tolist() == own.obs["scgpt_label"].tolist()


def test_a_file_becomes_its_results(client, cells, own, tmp_path):
    cells[:9].write_h5ad(tmp_path / "few.h5ad")
    job = client.submit(tmp_path / "few.h5ad", JobOptions(output="h5ad", report=False))
    seen = []
    done = client.wait(job.id, lambda cells_done, n_cells: seen.append((cells_done, n_cells)), timeout=120)
    path, bad = client.fetch(done, tmp_path / "results")
    assert "all values are zero" in bad.read_text()
    assert ad.read_h5ad(path).obs["scgpt_label"].tolist() == own.obs["scgpt_label"].tolist()[:9]
    assert seen[-1] == (9, 9)
    client.cancel(job.id)
    with pytest.raises(RefusedError, match="no job"):
        client.job(job.id)


def test_another_task_answers_with_its_document(client, cells):
    told = client.call("genes", cells[:20].copy(), obs=["cell_type"], by="cell_type", only=["CD3D", "LYZ"])
    assert told["kind"] == "gene_vectors"
    assert {gene["group"] for gene in told["vectors"]["genes"]} <= {*cells.obs["cell_type"]}


def test_what_is_served_is_told(client):
    assert [model["name"] for model in client.models()] == ["demo"]
    served = client.model()
    assert (served.key, served.dim) == (demo.KEY, 64)
    assert "embed" in served.tasks


def test_the_pages_examples_run(running, cells, tmp_path, monkeypatch):
    text = (Path(__file__).parents[3] / "docs" / "serving" / "client.md").read_text()
    few = cells[:30].copy()
    few.obs["donor"] = ["a", "b"] * 15
    few.write_h5ad(tmp_path / "cells.h5ad")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(code.replace("http://localhost:8080", running.url), names)
    assert (tmp_path / "results").is_dir()
    assert names["few"].obsm["X_scGPT_first"].shape == (30, 64)
    assert names["told"]["kind"] == "imputed_values"
