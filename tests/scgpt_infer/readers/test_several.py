"""Cells of several modalities as one source: what is joined, in which order, and what is refused."""

import os
import warnings
from pathlib import Path

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from cell_files import write_h5mu, write_tenx, write_zarr
from scgpt_infer.readers.joined import JoinedCells
from scgpt_infer.readers.matrix import CsrRows
from scgpt_infer.readers.several import open_several
from scgpt_infer.spans import grid
from scgpt_runtime.errors import CellsError

N_CELLS = 70
DATA = os.environ.get("SCGPT_INFER_DATA")


def some(n_features: int, seed: int, names: list[str] | None = None) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    counts = sparse.csr_matrix(rng.poisson(0.7, (len(names) if names else N_CELLS, n_features)).astype(np.float32))
    obs = pd.DataFrame(index=names or [f"c{row}" for row in range(N_CELLS)])
    return ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"{'xyz'[seed]}{i}" for i in range(n_features)]))


def dense(source: JoinedCells, rows: int = 16) -> np.ndarray:
    blocks = list(source.blocks(grid(source.n_cells, rows)))
    assert [block.first_row for block in blocks] == list(range(0, source.n_cells, rows))
    parts = [sparse.csr_matrix((b.data, b.indices, b.indptr), (b.n_cells, source.n_genes)) for b in blocks]
    return sparse.vstack(parts).toarray()


def every(names: tuple[str, ...], where: str) -> tuple[str, ...]:
    return names


def opened(cells, *wanted: str) -> JoinedCells:
    return open_several(cells, (lambda names, where: wanted) if wanted else every)


@pytest.fixture
def two() -> dict[str, ad.AnnData]:
    """Some cells are in one modality alone, and those of the second are in another order."""
    first = some(6, 0)
    order = np.random.default_rng(5).permutation(N_CELLS)[:50]
    return {"rna": first, "adt": some(4, 1)[order].copy()}


@pytest.mark.parametrize("kind", ["h5mu", "zarr", "object"])
def test_all_cells_of_mudata_with_what_each_modality_has_of_them(two, tmp_path, kind):
    extra = some(4, 1, [f"only{row}" for row in range(5)])
    two["adt"] = ad.concat([two["adt"], extra])
    if kind == "object":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cells = mudata.MuData(two)
    else:
        cells = write_h5mu(two, tmp_path / f"two.{kind}", donor="of")
    with opened(cells, "adt", "rna") as source:
        names = source.cell_names(0, source.n_cells)
        assert sorted(names) == sorted({*two["rna"].obs_names, *two["adt"].obs_names})
        found = pd.DataFrame(dense(source), index=names, columns=source.gene_names["index"])
        for part in two.values():
            expected = pd.DataFrame(part.X.toarray(), part.obs_names, part.var_names)
            pd.testing.assert_frame_equal(found.loc[part.obs_names, part.var_names], expected)
        assert not found.loc["only0", two["rna"].var_names].any()
        assert [(one.name, one.columns.tolist()) for one in source.modalities] == [
            ("adt", [0, 1, 2, 3]),
            ("rna", [4, 5, 6, 7, 8, 9]),
        ]
        if kind != "object":
            assert source.cell_column("donor").tolist() == [f"of {name}" for name in names]
        sample = source.sample(20)
        assert sample.n_cells >= 20
        assert sample.indices.max() < 10


def test_columns_of_one_modality_are_found_with_and_without_its_name(two, tmp_path):
    two["adt"].obs["lane"] = [f"lane of {name}" for name in two["adt"].obs_names]
    with opened(write_h5mu(two, tmp_path / "two.h5mu")) as source:
        names = source.cell_names(0, source.n_cells)
        expected = [f"lane of {name}" if name in two["adt"].obs_names else "" for name in names]
        assert source.cell_column("lane").tolist() == source.cell_column("adt:lane").tolist() == expected
        with pytest.raises(CellsError, match="has no column 'donor'"):
            source.cell_column("donor")


@pytest.mark.parametrize("kind", ["object", "h5ad", "zarr"])
def test_what_lies_in_obsm_is_a_modality_but_for_embeddings(tmp_path, kind):
    cells = some(6, 0)
    table = pd.DataFrame({"CD3": np.arange(N_CELLS), "CD4": np.ones(N_CELLS, np.float32)}, index=cells.obs_names)
    cells.obsm["protein_counts"], cells.obsm["X_pca"] = table, np.zeros((N_CELLS, 2))
    cells.obsm["atac"], cells.uns["atac_names"] = sparse.csr_matrix(np.eye(N_CELLS, 3)), ["p0", "p1", "p2"]
    given = cells
    if kind == "h5ad":
        cells.write_h5ad(given := tmp_path / "cells.h5ad")
    if kind == "zarr":
        given = write_zarr(cells, tmp_path / "cells.zarr", 2)
    with opened(given) as source:
        assert {one.name for one in source.modalities} == {"X", "protein_counts", "atac"}
    with opened(given, "X", "protein_counts", "atac") as source:
        assert source.gene_names["index"][-5:] == ["CD3", "CD4", "p0", "p1", "p2"]
        np.testing.assert_array_equal(
            dense(source), np.hstack([cells.X.toarray(), table.to_numpy(np.float32), np.eye(N_CELLS, 3)])
        )
        assert source.values == "integer"
    with opened(given, "protein_counts") as source:
        np.testing.assert_array_equal(dense(source), table.to_numpy(np.float32))


def test_types_of_features_are_modalities(tmp_path):
    cells = some(6, 0)
    kinds = ["Peaks", "Gene Expression"] * 3
    cells.var["feature_types"] = kinds
    ten = write_tenx(
        tmp_path / "ten.h5", cells.X, [f"id{i}" for i in range(6)], list(cells.var_names), list(cells.obs_names),
        types=kinds, genomes=["GRCh38"] * 6,
    )  # fmt: skip
    for given in (cells, ten):
        with opened(given) as source:
            assert {one.name: one.columns.tolist() for one in source.modalities} == {
                "Peaks": [0, 2, 4],
                "Gene Expression": [1, 3, 5],
            }
            np.testing.assert_array_equal(dense(source), cells.X.toarray())


def test_the_choice_is_told_what_there_is_and_may_refuse(two, tmp_path):
    path = write_h5mu(two, tmp_path / "two.h5mu")

    def refuse(names: tuple[str, ...], where: str) -> tuple[str, ...]:
        assert (set(names), where) == ({"rna", "adt"}, str(path))
        raise CellsError("none of these")

    with pytest.raises(CellsError, match="none of these"):
        open_several(path, refuse)
    path.unlink()  # nothing holds it open


def test_an_array_without_names_is_refused_with_what_to_do():
    cells = some(6, 0)
    cells.obsm["adt"] = np.ones((N_CELLS, 3))
    with pytest.raises(CellsError, match=r"columns of obsm\['adt'\] .* have no names; .* uns\['adt_names'\]"):
        opened(cells)


def test_scaled_proteins_are_refused():
    cells = some(6, 0)
    cells.obsm["adt"] = pd.DataFrame(np.random.default_rng(0).normal(size=(N_CELLS, 3)), index=cells.obs_names)
    with pytest.raises(CellsError, match=r"obsm\['adt'\].* is scaled"):
        opened(cells)


def test_a_map_that_leads_nowhere_is_refused(two, tmp_path):
    import h5py

    path = write_h5mu(two, tmp_path / "two.h5mu")
    with h5py.File(path, "r+") as file:
        file["obsmap/adt"][0] = 1000
    with pytest.raises(CellsError, match=r"obsmap/adt of .* does not say where the cells"):
        opened(path)


def test_other_paths_fail_as_for_one_modality(tmp_path: Path):
    with pytest.raises(CellsError, match="There is no file"):
        opened(tmp_path / "none.h5mu")
    (tmp_path / "cells.bam").write_bytes(b"x")
    with pytest.raises(CellsError, match="known formats"):
        opened(tmp_path / "cells.bam")


@pytest.mark.data
@pytest.mark.skipif(DATA is None, reason="SCGPT_INFER_DATA names no folder of real data")
@pytest.mark.parametrize("name", ["citeseq_bm_pbmc_250_197adt", "citeseq_pbmc_2batch_400"])
def test_real_proteins_beside_rna(name):
    path = Path(str(DATA)) / f"{name}.h5ad"
    expected = ad.read_h5ad(path)
    with opened(path, "X", "protein_counts") as source:
        parts = [expected.X.toarray(), expected.obsm["protein_counts"].to_numpy(np.float32)]
        np.testing.assert_array_equal(dense(source, 128), np.hstack(parts))
        assert source.modalities[1].names["index"] == list(expected.obsm["protein_counts"].columns)


@pytest.mark.data
@pytest.mark.skipif(DATA is None, reason="SCGPT_INFER_DATA names no folder of real data")
def test_real_rna_and_peaks():
    path = Path(str(DATA)) / "multiome_muon_test_1000.h5mu"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = mudata.read_h5mu(path)
    with opened(path, "rna", "atac") as source:
        parts = [expected.mod[name].X.toarray() for name in ("rna", "atac")]
        np.testing.assert_array_equal(dense(source, 512), np.hstack(parts))
        assert source.cell_names(0, 3) == list(expected.obs_names[:3])


def test_cells_in_any_order_are_read_in_small_pieces(two, monkeypatch):
    """Else a block of a modality whose cells are shuffled would have all of it in memory."""
    spans, read = [], CsrRows.read

    def spied(self: CsrRows, start: int, stop: int):
        spans.append(stop - start)
        return read(self, start, stop)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cells = mudata.MuData(two)
    with opened(cells, "adt") as source:
        expected = dense(source, N_CELLS)
        monkeypatch.setattr("scgpt_infer.readers.joined.PIECE", 8)
        monkeypatch.setattr(CsrRows, "read", spied)
        np.testing.assert_array_equal(dense(source, N_CELLS), expected)
    assert max(spans) <= 8
