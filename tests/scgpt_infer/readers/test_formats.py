"""The same cells are read the same from every format: blocks to the bit, sample, names, columns of cells."""

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from cell_files import write_h5mu, write_tenx, write_zarr, zipped
from scgpt_infer.readers import CellSource, open_cells
from scgpt_infer.spans import grid


def tenx(cells: ad.AnnData, path: Path, group: str) -> Path:
    types = ["Gene Expression"] * cells.n_vars if group == "matrix" else None
    names = list(cells.var["feature_name"])
    return write_tenx(path, cells.X, list(cells.var_names), names, list(cells.obs_names), types=types, group=group)


def proteins(cells: ad.AnnData) -> ad.AnnData:
    return ad.AnnData(np.ones((cells.n_obs, 3), np.float32), obs=cells.obs[[]])


FORMATS: dict[str, Callable[[ad.AnnData, Path], Path]] = {
    "zarr 2": lambda cells, folder: write_zarr(cells, folder / "c.zarr", 2),
    "zarr 2 in chunks": lambda cells, folder: write_zarr(cells, folder / "c.zarr", 2, chunk=64),
    "zarr 3": lambda cells, folder: write_zarr(cells, folder / "c.zarr", 3),
    "zarr 3 in shards": lambda cells, folder: write_zarr(cells, folder / "c.zarr", 3, chunk=64, shard=256),
    "zip": lambda cells, folder: zipped(write_zarr(cells, folder / "c", 2, chunk=64), folder / "c.zarr.zip"),
    "zip of the folder": lambda cells, folder: zipped(
        write_zarr(cells, folder / "c", 3), folder / "c.zarr.zip", inside="c.zarr"
    ),
    "a folder without a suffix": lambda cells, folder: write_zarr(cells, folder / "table", 3),
    "h5mu": lambda cells, folder: write_h5mu({"prot": proteins(cells), "rna": cells}, folder / "c.h5mu"),
    "zarr by mudata": lambda cells, folder: write_h5mu({"prot": proteins(cells), "rna": cells}, folder / "c.zarr"),
    "h5ad named .h5": lambda cells, folder: (cells.write_h5ad(folder / "c.h5"), folder / "c.h5")[1],
    "h5mu named .h5": lambda cells, folder: write_h5mu({"rna": cells}, folder / "c.h5mu").rename(folder / "c.h5"),
    "10x 3": lambda cells, folder: tenx(cells, folder / "c.h5", "matrix"),
    "10x 2": lambda cells, folder: tenx(cells, folder / "c.h5", "GRCh38"),
}
STORAGES = {
    "csr": lambda counts: counts,
    "csc": lambda counts: counts.tocsc(),
    "dense": lambda counts: counts.toarray(),
}


def assert_equal(source: CellSource, expected: CellSource, same: Callable[[object, object], bool]) -> None:
    assert (source.n_cells, source.n_genes) == (expected.n_cells, expected.n_genes)
    assert (source.counts, source.values) == (expected.counts, expected.values)
    for ours, theirs in zip(
        source.blocks(grid(source.n_cells, 48)), expected.blocks(grid(expected.n_cells, 48)), strict=True
    ):
        assert same(ours, theirs)
    assert same(source.sample(60), expected.sample(60))
    assert source.cell_names(0, source.n_cells) == expected.cell_names(0, expected.n_cells)
    assert source.cell_names(98, 101) == ["cell-98", "cell-99", "cell-100"]
    assert source.cell_column("index").tolist() == expected.cell_names(0, expected.n_cells)


@pytest.mark.parametrize("name", FORMATS)
def test_cells_are_the_same_from_every_format(name: str, cells: ad.AnnData, tmp_path: Path, same):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    path = FORMATS[name](cells, tmp_path)
    with open_cells(path) as source, open_cells(tmp_path / "cells.h5ad") as expected:
        assert source.path == path
        assert_equal(source, expected, same)
        if name.startswith("10x"):
            assert list(source.gene_names) == ["gene_symbols", "gene_ids", "index"]
            assert source.gene_names["gene_symbols"] == expected.gene_names["feature_name"]
            assert source.gene_names["gene_ids"] == expected.gene_names["index"]
            assert source.cell_columns == ()
        else:
            assert dict(source.gene_names) == dict(expected.gene_names)
            assert source.cell_columns == expected.cell_columns
            assert source.cell_column("cell_type").tolist() == expected.cell_column("cell_type").tolist()


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("storage", STORAGES)
def test_a_zarr_matrix_may_be_stored_in_every_way(
    storage: str, version: int, counts: sparse.csr_matrix, make_cells, tmp_path: Path, same
):
    cells = make_cells(STORAGES[storage](counts))
    cells.write_h5ad(tmp_path / "cells.h5ad")
    path = write_zarr(cells, tmp_path / "cells.zarr", version, chunk=64)
    with open_cells(path) as source, open_cells(tmp_path / "cells.h5ad") as expected:
        assert_equal(source, expected, same)


@pytest.mark.parametrize("path", ["c.zarr", "c.h5ad"])
def test_the_matrix_is_chosen_alike(path: str, cells: ad.AnnData, counts: sparse.csr_matrix, tmp_path: Path, dense):
    cells.layers["counts"] = counts * 2
    cells.layers["spliced"] = counts.tocsc() * 3
    cells.raw = ad.AnnData(counts * 4, obs=cells.obs, var=cells.var.rename(index=lambda name: f"raw-{name}"))
    if path == "c.zarr":
        write_zarr(cells, tmp_path / path, 3)
    else:
        cells.write_h5ad(tmp_path / path)
    for layer, name, factor in ((None, "layers/counts", 2), ("X", "X", 1), ("spliced", "layers/spliced", 3)):
        with open_cells(tmp_path / path, layer=layer) as source:
            assert source.counts == name
            assert np.array_equal(dense(source), counts.toarray() * factor)
    with open_cells(tmp_path / path, layer="raw") as source:
        assert (source.counts, source.gene_names["index"][0]) == ("raw/X", "raw-ENSG00000000000")
        assert np.array_equal(dense(source), counts.toarray() * 4)


@pytest.mark.parametrize("path", ["c.zarr", "c.h5ad"])
def test_scaled_values_give_way_to_raw(path: str, cells: ad.AnnData, tmp_path: Path):
    cells.raw = cells.copy()
    cells.X = cells.X.toarray() - 5
    if path == "c.zarr":
        write_zarr(cells, tmp_path / path, 2)
    else:
        cells.write_h5ad(tmp_path / path)
    with open_cells(tmp_path / path) as source:
        assert source.counts == "raw/X"
        assert "X is scaled" in source.why
