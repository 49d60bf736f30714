"""MuData: the modality of RNA is found, or the user is asked; the cells and their columns are the modality's."""

import os
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest

from cell_files import write_h5mu
from scgpt_infer.readers import open_cells
from scgpt_infer.spans import grid
from scgpt_runtime.errors import CellsError

DATA = os.environ.get("SCGPT_INFER_DATA")


def other(cells: ad.AnnData, names: list[str], **columns: list[str]) -> ad.AnnData:
    modality = ad.AnnData(np.ones((cells.n_obs, len(names)), np.float32), obs=cells.obs[[]])
    modality.var_names = names
    for name, values in columns.items():
        modality.var[name] = values
    return modality


@pytest.fixture
def peaks(cells: ad.AnnData) -> ad.AnnData:
    return other(cells, [f"chr1:{i}00-{i}50" for i in range(1, 6)])


@pytest.mark.parametrize("name", ["rna", "RNA", "gex", "GEX", "Gene Expression"])
def test_the_modality_of_rna_goes_by_several_names(name: str, cells: ad.AnnData, tmp_path: Path, peaks: ad.AnnData):
    path = write_h5mu({"atac": peaks, name: cells}, tmp_path / "c.h5mu")
    with open_cells(path) as source:
        assert source.n_genes == cells.n_vars
        assert (
            source.why
            == f"it is of modality {name} (there are {', '.join(sorted(['atac', name]))}); there is no layer 'counts'"
        )


def test_by_another_name_it_is_the_only_one_of_genes(cells: ad.AnnData, tmp_path: Path, peaks: ad.AnnData):
    symbols = other(cells, ["CD3D", "CD8A"], feature_types=["Gene Expression"] * 2)
    proteins = other(
        cells, ["ENSG00000000001"], feature_types=["Antibody Capture"]
    )  # said to be none, despite its name
    for found, (name, modality) in {"ids": ("cells", cells), "types": ("cells", symbols)}.items():
        path = write_h5mu({"p": peaks, name: modality, "q": proteins}, tmp_path / f"{found}.h5mu")
        with open_cells(path) as source:
            assert source.n_genes == modality.n_vars
    both = write_h5mu({"a": cells, "b": symbols}, tmp_path / "both.h5mu")
    none = write_h5mu({"a": peaks, "b": proteins}, tmp_path / "none.h5mu")
    for path in (both, none):
        with pytest.raises(
            CellsError, match=r"has the modalities a, b, and it cannot be told which is of RNA.*--modality"
        ):
            open_cells(path)
    with open_cells(write_h5mu({"one": peaks}, tmp_path / "one.h5mu")) as source:  # nothing else can be meant
        assert source.n_genes == peaks.n_vars


def test_a_modality_is_chosen(cells: ad.AnnData, tmp_path: Path, peaks: ad.AnnData):
    path = write_h5mu({"atac": peaks, "rna": cells}, tmp_path / "c.h5mu")
    for name in ("atac", "ATAC"):
        with open_cells(path, modality=name) as source:
            assert source.gene_names["index"][0] == "chr1:100-150"
    with pytest.raises(CellsError, match=r"has the modalities atac, rna, and 'prot' was asked for"):
        open_cells(path, modality="prot")


def test_other_formats_have_no_modalities(cells: ad.AnnData, tmp_path: Path):
    cells.write_h5ad(tmp_path / "c.h5ad")
    (tmp_path / "c.h5").write_bytes((tmp_path / "c.h5ad").read_bytes())
    for given in (cells, tmp_path / "c.h5ad", tmp_path / "c.h5"):
        with pytest.raises(CellsError, match="has no modalities, and 'rna' was asked for"):
            open_cells(given, modality="rna")


@pytest.mark.parametrize("suffix", [".h5mu", ".zarr"])
def test_cells_and_their_columns_are_the_modality_s(suffix: str, cells: ad.AnnData, tmp_path: Path, dense):
    """The file has more cells, in another order, and columns of its own."""
    rna = cells[[7, 3, 100, 50]].copy()
    rest = other(cells[:60], ["A", "B"])
    columns = {"donor": "donor of", "rna:depth": "depth of", "rna:cell_type": "wrong", "prot:quality": "quality of"}
    path = write_h5mu({"prot": rest, "rna": rna}, tmp_path / f"c{suffix}", **columns)
    with open_cells(path) as source:
        assert source.cell_names(0, 4) == ["cell-7", "cell-3", "cell-100", "cell-50"]
        assert source.cell_names(1, 3) == ["cell-3", "cell-100"]
        assert np.array_equal(dense(source), rna.X.toarray())
        assert source.cell_columns[0] == "cell_type"
        assert {"donor", "depth", "prot:quality"} <= set(source.cell_columns)
        assert source.cell_column("cell_type").tolist() == list(rna.obs["cell_type"])
        assert source.cell_column("donor").tolist() == [f"donor of cell-{i}" for i in (7, 3, 100, 50)]
        assert source.cell_column("depth")[1] == "depth of cell-3"
        assert source.cell_column("prot:quality")[2] == "quality of cell-100"
        assert source.cell_column("index").tolist() == list(rna.obs_names)
        with pytest.raises(CellsError, match="has no column 'rna:depth'"):
            source.cell_column("rna:depth")


def test_a_map_that_does_not_fit_the_cells_is_an_error(cells: ad.AnnData, tmp_path: Path):
    path = write_h5mu({"rna": cells}, tmp_path / "c.h5mu", donor="of")
    for wrong in (np.arange(1, 100), np.full(130, 7), np.arange(2, 132), np.arange(-1, 129)):
        with h5py.File(path, "r+") as file:
            del file["obsmap/rna"]
            file["obsmap/rna"] = wrong
        with pytest.raises(CellsError, match=r"obsmap/rna of .* does not say where the cells"):
            open_cells(path)
    with h5py.File(path, "r+") as file:
        del file["obsmap"]
    with open_cells(path) as source:
        assert source.cell_columns == ("cell_type",)


def test_what_is_no_mudata_is_said_to_be_none(cells: ad.AnnData, tmp_path: Path):
    cells.write_h5ad(tmp_path / "c.h5mu")
    with pytest.raises(CellsError, match=r"HDF5 but not MuData: it holds .*obs.*; expected mod"):
        open_cells(tmp_path / "c.h5mu")
    (tmp_path / "text.h5mu").write_text("no file of HDF5")
    with pytest.raises(CellsError, match=r"not an HDF5 file .* expected an h5mu file"):
        open_cells(tmp_path / "text.h5mu")
    with h5py.File(tmp_path / "empty.h5mu", "w") as file:
        file.create_group("mod")
    with pytest.raises(CellsError, match=r"has the modalities \(none\)"):
        open_cells(tmp_path / "empty.h5mu")


@pytest.mark.parametrize("part", [0.01, 0.1, 0.35, 0.5, 0.75, 0.9])
def test_truncated(part: float, cells: ad.AnnData, tmp_path: Path):
    path = write_h5mu({"rna": cells}, tmp_path / "c.h5mu")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(CellsError, match=r"again|not an HDF5 file"), open_cells(path) as source:
        list(source.blocks(grid(source.n_cells, 64)))


@pytest.mark.data
@pytest.mark.skipif(DATA is None, reason="SCGPT_INFER_DATA names no folder of real data")
def test_a_real_file_is_what_mudata_reads(dense):
    path = Path(str(DATA)) / "multiome_muon_test_1000.h5mu"
    with h5py.File(path) as file:  # written by muon in 2021, before mudata was
        theirs = ad.io.read_elem(file["mod/rna/X"])
    with open_cells(path) as source:
        assert (source.n_cells, source.n_genes, source.values) == (1000, 45, "integer")
        assert np.array_equal(dense(source, 300), theirs.toarray())
        assert list(source.gene_names) == ["gene_ids", "index"]
        assert source.gene_names["gene_ids"][0].startswith("ENSG")
        assert len(set(source.cell_names(0, 1000))) == 1000
