"""The same cells give the same vectors from every format, and an .h5ad output keeps what is said of the cells."""

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scgpt_infer
from cell_files import write_h5mu, write_tenx, write_zarr
from scgpt_infer.options import EmbedOptions


def tenx(cells: ad.AnnData, folder: Path) -> Path:
    names, barcodes = list(cells.var_names), list(cells.obs_names)
    return write_tenx(folder / "c.h5", sparse.csr_matrix(cells.X), [f"id-{name}" for name in names], names, barcodes)


FORMATS: dict[str, Callable[[ad.AnnData, Path], Path]] = {
    "zarr": lambda cells, folder: write_zarr(cells, folder / "c.zarr", 3, chunk=500),
    "h5mu": lambda cells, folder: write_h5mu({"rna": cells}, folder / "c.h5mu", donor="of"),
    "10x": tenx,
}


@pytest.fixture
def told(toy_adata: ad.AnnData) -> ad.AnnData:
    n = toy_adata.n_obs
    toy_adata.obs["age"] = np.arange(n)
    toy_adata.obs["share"] = np.where(np.arange(n) % 2, np.nan, 0.5)
    toy_adata.obs["note"] = [f"note {i}" for i in range(n)]
    toy_adata.obs["sex"] = pd.array(["f", None] * (n // 2), "string")
    return toy_adata


@pytest.mark.parametrize("name", FORMATS)
def test_vectors_are_the_same_and_obs_is_kept(name: str, told: ad.AnnData, toy_model: Path, tmp_path: Path):
    told.write_h5ad(tmp_path / "c.h5ad")
    path = FORMATS[name](told, tmp_path)
    for cells, output in ((tmp_path / "c.h5ad", "expected"), (path, "found")):
        scgpt_infer.embed_file(cells, tmp_path / f"{output}.h5ad", model=toy_model)
    expected, found = ad.read_h5ad(tmp_path / "expected.h5ad"), ad.read_h5ad(tmp_path / "found.h5ad")
    assert found.obsm["X_scGPT"].tobytes() == expected.obsm["X_scGPT"].tobytes()
    assert found.uns["scgpt_infer"]["vector_id"] == expected.uns["scgpt_infer"]["vector_id"]
    assert (list(found.obs_names), list(found.var_names)) == (list(expected.obs_names), list(expected.var_names))
    assert found.X is None
    if name == "10x":
        assert found.obs.shape[1] == 0
        return
    pd.testing.assert_frame_equal(found.obs[list(expected.obs)], expected.obs, check_categorical=False)
    if name == "h5mu":
        assert found.obs["donor"].iloc[3] == "of cell-3"


def test_only_the_cells_that_were_embedded_are_kept(told: ad.AnnData, toy_model: Path, tmp_path: Path):
    path = write_zarr(told, tmp_path / "c.zarr", 2)
    scgpt_infer.embed_file(path, tmp_path / "found.h5ad", model=toy_model, options=EmbedOptions(limit=7))
    found = ad.read_h5ad(tmp_path / "found.h5ad")
    assert found.shape[0] == 7
    assert found.obs["age"].tolist() == list(range(7))


def test_names_of_genes_need_not_be_unique(toy_adata: ad.AnnData, toy_model: Path, tmp_path: Path):
    names = ["G0", *toy_adata.var_names[1:-1], "G1"]
    path = write_tenx(
        tmp_path / "c.h5", sparse.csr_matrix(toy_adata.X), list(toy_adata.var_names), names, list(toy_adata.obs_names)
    )
    scgpt_infer.embed_file(path, tmp_path / "found.h5ad", model=toy_model)
    with h5py.File(tmp_path / "found.h5ad") as file:
        assert file["var/_index"].asstr()[:].tolist() == names


def test_a_file_of_another_format_comes_into_memory_with_its_matrix(told: ad.AnnData, toy_model: Path, tmp_path: Path):
    expected = scgpt_infer.embed(told, model=toy_model)
    found = scgpt_infer.embed(FORMATS["zarr"](told, tmp_path), model=toy_model)
    np.testing.assert_array_equal(found.X.toarray(), told.X.toarray())
    assert found.obsm["X_scGPT"].tobytes() == expected.obsm["X_scGPT"].tobytes()
    assert found.obs["note"].tolist() == told.obs["note"].tolist()


def test_genes_of_one_name_come_into_memory_too(told: ad.AnnData, toy_model: Path, tmp_path: Path):
    names = [*list(told.var_names)[:-1], told.var_names[0]]
    few = sparse.csr_matrix(told.X)[:40]
    path = write_tenx(tmp_path / "c.h5", few, [f"id-{i}" for i in range(70)], names, list(told.obs_names)[:40])
    found = scgpt_infer.embed(path, model=toy_model)
    assert list(found.var_names) == names
    assert found.obsm["X_scGPT"].shape == (40, 4)
