"""What lies with the cells beside their counts: columns of obs, and an embedding that a run of ours wrote."""

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from cell_files import write_zarr
from scgpt_infer.readers import open_cells
from scgpt_runtime.errors import CellsError

RECORD = {"key": "X_scGPT", "vector_id": "0123abcd", "dim": 3, "match_fraction": 0.25, "note": {"not": "flat"}}

GIVEN: dict[str, Callable[[ad.AnnData, Path], object]] = {
    "h5ad": lambda cells, folder: (cells.write_h5ad(folder / "c.h5ad"), folder / "c.h5ad")[1],
    "zarr 2": lambda cells, folder: write_zarr(cells, folder / "c.zarr", 2),
    "zarr 3": lambda cells, folder: write_zarr(cells, folder / "c.zarr", 3),
    "in memory": lambda cells, folder: cells,
    "a view": lambda cells, folder: cells[:, :10],
    "backed": lambda cells, folder: ad.read_h5ad(
        (cells.write_h5ad(folder / "c.h5ad"), folder / "c.h5ad")[1], backed="r"
    ),
}


@pytest.fixture
def embedded(cells: ad.AnnData) -> ad.AnnData:
    vectors = np.random.default_rng(0).normal(size=(cells.n_obs, 3)).astype(np.float32)
    vectors[3] = np.nan  # the cell without counts
    cells.obsm["X_scGPT"] = vectors
    cells.uns["scgpt_infer"] = dict(RECORD)
    return cells


@pytest.mark.parametrize("name", GIVEN)
def test_an_embedding_of_ours_is_given_with_its_record(name: str, embedded: ad.AnnData, tmp_path: Path):
    with open_cells(GIVEN[name](embedded, tmp_path)) as source:
        stored = source.stored("X_scGPT")
        assert stored is not None
        assert dict(stored.record) == {name: value for name, value in RECORD.items() if name != "note"}
        assert {type(value) for value in stored.record.values()} == {str, int, float}
        assert (stored.n_cells, stored.dim) == (130, 3)
        rows = stored.read(2, 6)
        assert rows.dtype == np.float32
        assert np.array_equal(rows, embedded.obsm["X_scGPT"][2:6], equal_nan=True)
        rows[:] = 0  # the caller's own
        assert stored.read(2, 3).all()


@pytest.mark.parametrize("name", ["h5ad", "zarr 3", "in memory"])
def test_what_is_no_embedding_of_ours_is_not_given(name: str, embedded: ad.AnnData, tmp_path: Path):
    embedded.obsm["X_pca"] = np.ones((130, 3), np.float32)
    embedded.obsm["table"] = pd.DataFrame({"x": np.ones(130)}, index=embedded.obs_names)
    with open_cells(GIVEN[name](embedded, tmp_path)) as source:
        assert source.stored("X_pca") is None  # the record is of another
        assert source.stored("none") is None
        assert source.stored("table") is None


@pytest.mark.parametrize("change", ["no record", "counts", "flat"])
def test_an_array_of_another_kind_is_not_given(change: str, embedded: ad.AnnData, tmp_path: Path):
    if change == "no record":
        del embedded.uns["scgpt_infer"]
    elif change == "counts":
        embedded.obsm["X_scGPT"] = np.ones((130, 3), np.int64)
    else:
        embedded.uns["scgpt_infer"] = "text"
    embedded.write_h5ad(tmp_path / "c.h5ad")
    for given in (embedded, tmp_path / "c.h5ad"):
        with open_cells(given) as source:
            assert source.stored("X_scGPT") is None


@pytest.mark.parametrize("name", GIVEN)
def test_columns_of_cells_are_the_same_text_wherever_they_are(name: str, cells: ad.AnnData, tmp_path: Path):
    n = cells.n_obs // 2
    cells.obs["number"] = pd.Categorical([7, None] * n)
    cells.obs["single"] = np.tile(np.array([0.1, np.nan], np.float32), n)
    cells.obs["whole"] = pd.array([2**60, None] * n, "Int64")
    cells.obs.index.name = "barcode"
    with open_cells(GIVEN[name](cells, tmp_path)) as source:
        assert source.cell_columns == ("cell_type", "number", "single", "whole")
        assert source.cell_column("cell_type")[:3].tolist() == ["T", "B", "T"]
        assert source.cell_column("number")[:2].tolist() == ["7", ""]
        assert source.cell_column("single")[:2].tolist() == ["0.1", ""]
        assert source.cell_column("whole")[:2].tolist() == [str(2**60), ""]
        for index in ("index", "barcode"):
            assert source.cell_column(index).tolist() == [f"cell-{i}" for i in range(130)]
        assert source.cell_column("single").dtype.kind == "U"
        with pytest.raises(
            CellsError, match=r"has no column 'x'; it has cell_type, number, single, whole\. Choose one"
        ):
            source.cell_column("x")
