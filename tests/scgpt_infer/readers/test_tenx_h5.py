"""10x matrices: which features are genes, and what is no such matrix."""

from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest
from scipy import sparse

from cell_files import write_tenx
from scgpt_infer.readers import open_cells
from scgpt_infer.readers.features import SomeColumns
from scgpt_infer.readers.matrix import CsrRows
from scgpt_infer.spans import grid
from scgpt_runtime.errors import CellsError

IDS = [f"ENSG{i:011d}" for i in range(40)]
NAMES = [f"GENE{i}" for i in range(40)]
BARCODES = [f"AAAC{i}-1" for i in range(130)]
TYPES = (["Gene Expression"] * 3 + ["Antibody Capture"] * 2) * 8


@pytest.fixture
def path(counts: sparse.csr_matrix, tmp_path: Path) -> Path:
    return write_tenx(tmp_path / "c.h5", counts, IDS, NAMES, BARCODES, types=TYPES, genomes=["GRCh38"] * 40)


def test_only_genes_become_columns(path: Path, counts: sparse.csr_matrix, dense):
    genes = [i for i, kind in enumerate(TYPES) if kind == "Gene Expression"]
    with open_cells(path) as source:
        assert (source.counts, source.values, source.n_genes) == ("X", "integer", 24)
        assert source.why == "it is the file's one matrix, without 16 of Antibody Capture"
        assert np.array_equal(dense(source), counts.toarray()[:, genes])
        assert source.gene_names["gene_ids"] == [IDS[i] for i in genes]
        assert source.gene_names["index"] == source.gene_names["gene_symbols"] == [NAMES[i] for i in genes]
        assert set(source.gene_column("genome")) == {"GRCh38"}
        assert source.sample(10).n_cells == 10


def test_another_type_is_chosen(path: Path, counts: sparse.csr_matrix, dense):
    proteins = [i for i, kind in enumerate(TYPES) if kind != "Gene Expression"]
    with open_cells(path, modality="antibody capture") as source:
        assert np.array_equal(dense(source), counts.toarray()[:, proteins])
        assert source.why.endswith("without 24 of Gene Expression")
    with pytest.raises(CellsError, match=r"no features of 'Peaks'; it has Antibody Capture, Gene Expression, GRCh38"):
        open_cells(path, modality="Peaks")
    with pytest.raises(CellsError, match="has no layer 'counts'; choose one of: --layer X"):
        open_cells(path, layer="counts")


def test_a_file_without_genes_names_what_it_has(counts: sparse.csr_matrix, tmp_path: Path):
    path = write_tenx(tmp_path / "c.h5", counts, IDS, NAMES, BARCODES, types=["Peaks"] * 40)
    with pytest.raises(CellsError, match=r"no features of the type Gene Expression; it has Peaks\. Choose one"):
        open_cells(path)


def test_a_file_that_says_no_types_is_all_genes(counts: sparse.csr_matrix, tmp_path: Path, dense):
    with open_cells(write_tenx(tmp_path / "c.h5", counts, IDS, NAMES, BARCODES)) as source:
        assert source.why == "it is the file's one matrix"
        assert np.array_equal(dense(source), counts.toarray())


def test_genes_of_several_genomes_are_a_choice(counts: sparse.csr_matrix, tmp_path: Path, dense):
    genomes = ["GRCh38"] * 30 + ["mm10"] * 8 + [""] * 2
    types = ["Gene Expression"] * 38 + ["Antibody Capture"] * 2
    named = [[f"{genome}_{name}" for genome, name in zip(genomes, texts, strict=True)] for texts in (IDS, NAMES)]
    path = write_tenx(tmp_path / "c.h5", counts, *named, BARCODES, types=types, genomes=genomes)
    with pytest.raises(CellsError, match=r"genes of several genomes: GRCh38, mm10\. Choose one \(--modality\)"):
        open_cells(path)
    with open_cells(path, modality="mm10") as source:
        assert np.array_equal(dense(source), counts.toarray()[:, 30:38])
        assert (source.gene_names["gene_ids"], source.gene_names["index"]) == (IDS[30:38], NAMES[30:38])
        assert source.why.endswith("without 30 of GRCh38, 2 of Antibody Capture")


def test_version_2_has_a_matrix_for_each_genome(counts: sparse.csr_matrix, tmp_path: Path, dense):
    path = write_tenx(tmp_path / "c.h5", counts, IDS, NAMES, BARCODES, group="hg19")
    for modality in (None, "hg19"):
        with open_cells(path, modality=modality) as source:
            assert np.array_equal(dense(source), counts.toarray())
    write_tenx(path, counts * 2, IDS, NAMES, BARCODES, group="mm10")
    with pytest.raises(CellsError, match=r"matrices of several genomes: hg19, mm10\. Choose one"):
        open_cells(path)
    with open_cells(path, modality="mm10") as source:
        assert np.array_equal(dense(source), counts.toarray() * 2)


def test_what_cellbender_adds_is_no_hindrance(path: Path, counts: sparse.csr_matrix):
    with h5py.File(path, "r+") as file:
        file["droplet_latents/cell_probability"] = np.ones(130)
        file["metadata/barcodes_analyzed"] = np.array(BARCODES, "S")
        file["global_latents/ambient_expression"] = np.ones(40)
    with open_cells(path) as source:
        assert source.n_cells == 130


def drop(*names: str):
    def apply(file: h5py.File) -> None:
        for name in names:
            del file[f"matrix/{name}"]

    return apply


def shorten(name: str):
    def apply(file: h5py.File) -> None:
        values = file[f"matrix/{name}"][:-1]
        del file[f"matrix/{name}"]
        file[f"matrix/{name}"] = values

    return apply


DAMAGE = {
    "no features": (drop("features"), "has no features/id and no features/name, so its genes have no names"),
    "no names": (drop("features/name"), "has no features/name"),
    "no matrix": (drop("indptr"), "holds matrix; expected a matrix of Cell Ranger"),
    "fewer barcodes": (shorten("barcodes"), "is 40 by 130, but 40 features and 129 cells are named"),
    "fewer types": (shorten("features/feature_type"), "columns of the features of .* differ in length"),
    "fewer values": (shorten("data"), "indices for"),
    "indptr ends early": (shorten("indptr"), "130 entries in indptr; expected 131"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_files(name: str, path: Path):
    damage, message = DAMAGE[name]
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(CellsError, match=message):
        open_cells(path)


@pytest.mark.parametrize("part", [0.001, 0.05, 0.35, 0.6, 0.9, 0.99])
def test_truncated(path: Path, part: float):
    whole = path.read_bytes()
    path.write_bytes(whole[: max(9, int(len(whole) * part))])
    with pytest.raises(CellsError, match="copy or download it again"), open_cells(path) as source:
        list(source.blocks(grid(source.n_cells, 64)))


def test_text_is_no_hdf5(tmp_path: Path):
    (tmp_path / "c.h5").write_text("barcode\tgene\n")
    with pytest.raises(CellsError, match=r"not an HDF5 file .*expected an HDF5 file from Cell Ranger"):
        open_cells(tmp_path / "c.h5")


def test_another_hdf5_file_is_named_by_what_it_holds(tmp_path: Path):
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["count"], file["barcode_idx"] = [1], [0]
        file.create_group("metrics")
    with pytest.raises(CellsError, match="holds barcode_idx, count, metrics; expected a matrix of Cell Ranger"):
        open_cells(tmp_path / "c.h5")


def test_no_cells(tmp_path: Path):
    path = write_tenx(tmp_path / "c.h5", sparse.csr_matrix((0, 40)), IDS, NAMES, [])
    with pytest.raises(CellsError, match="0 cells and 40 genes; there is nothing to embed"):
        open_cells(path)


def test_it_has_names_of_cells_and_nothing_else(path: Path):
    with open_cells(path) as source:
        assert source.cell_columns == ()
        assert source.cell_column("index").tolist() == BARCODES
        assert source.stored("X_scGPT") is None
        with pytest.raises(CellsError, match=r"has no column 'cell_type'; it has none"):
            source.cell_column("cell_type")
        with pytest.raises(CellsError, match=r"no gene column 'symbol'; it has gene_ids, gene_symbols"):
            source.gene_column("symbol")


def test_closing_frees_the_file(path: Path, cells: ad.AnnData):
    with open_cells(path) as source:
        source.sample()
    with h5py.File(path, "r+") as file:  # refused while the same process reads it
        assert "matrix" in file


def test_indices_outside_the_matrix_stay_outside():
    """They belong to a cell that the tokenizer then finds to be bad; no gene takes their values."""
    indptr, indices = np.array([0, 3, 3, 6]), np.array([0, 2, 9, -1, 3, 1])
    rows = SomeColumns(CsrRows(indptr, indices, np.arange(1, 7), (3, 4), "X"), np.array([1, 2]))
    block = rows.read(0, 3)
    assert block.indptr.tolist() == [0, 2, 2, 4]
    assert block.indices.tolist() == [1, -1, -1, 0]
    assert block.data.tolist() == [2, 3, 4, 6]
    assert rows.read(2, 3).indptr.tolist() == [0, 2]
