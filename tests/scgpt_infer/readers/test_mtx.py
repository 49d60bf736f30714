import tempfile
from collections import namedtuple
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from cell_files import write_tenx
from scgpt_infer.readers import CellSource, lines, mtx, open_cells, spool
from scgpt_infer.readers.room import ReadingRoom
from scgpt_infer.spans import grid
from scgpt_runtime.errors import CellsError
from text_files import genes_by_cells, market, put, write_mtx


@pytest.fixture
def as_tenx(cells: ad.AnnData, tmp_path: Path):
    """The same cells as Cell Ranger's HDF5 file, which is read by another reader."""
    names = (list(cells.var_names), list(cells.var["feature_name"]), list(cells.obs_names))
    with open_cells(write_tenx(tmp_path / "cells.h5", cells.X, *names)) as source:
        yield source


def assert_same(source: CellSource, expected: CellSource, same) -> None:
    assert (source.n_cells, source.n_genes) == (expected.n_cells, expected.n_genes)
    assert (source.counts, source.values) == (expected.counts, expected.values)
    for ours, theirs in zip(
        source.blocks(grid(source.n_cells, 48)), expected.blocks(grid(expected.n_cells, 48)), strict=True
    ):
        assert same(ours, theirs)
    assert same(source.sample(60), expected.sample(60))
    assert source.cell_names(0, source.n_cells) == expected.cell_names(0, expected.n_cells)
    assert dict(source.gene_names) == dict(expected.gene_names)


@pytest.mark.parametrize("order", ["cells", "genes"])
@pytest.mark.parametrize("version", [2, 3])
def test_a_folder_is_the_same_as_the_hdf5_file(version: int, order: str, cells, as_tenx, tmp_path: Path, same):
    with open_cells(write_mtx(tmp_path / "sample", cells, version=version, order=order)) as source:
        assert_same(source, as_tenx, same)
        assert list(source.gene_names) == ["gene_symbols", "gene_ids", "index"]
        assert source.why == as_tenx.why
        assert source.path == tmp_path / "sample"
        assert (source.cell_columns, source.stored("X_scGPT")) == ((), None)


@pytest.mark.parametrize("order", ["cells", "genes"])
def test_a_tiny_memory_gives_the_same(order: str, cells, as_tenx, tmp_path: Path, monkeypatch, same):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(lines, "BLOCK_BYTES", 70)
    monkeypatch.setattr(mtx, "SLAB", 7)
    few = ReadingRoom(tape_bytes=1, bucket_bytes=800)
    with open_cells(write_mtx(tmp_path / "sample", cells, order=order), room=few) as source:
        assert_same(source, as_tenx, same)
        assert list((tmp_path / "temporary").iterdir()) == []


def test_entries_in_any_order_are_the_same_values(cells, tmp_path: Path, dense):
    entries, shape = genes_by_cells(cells)
    mixed = [*entries[100:], *entries[:100][::-1]]
    with open_cells(write_mtx(tmp_path / "sample", cells, matrix=market(mixed, shape))) as source:
        assert np.array_equal(dense(source), cells.X.toarray())


def test_a_matrix_of_cells_by_genes_is_known_by_its_sizes(cells, as_tenx, tmp_path: Path, same):
    entries, shape = genes_by_cells(cells)
    turned = market([(column, row, value) for row, column, value in entries], shape[::-1])
    with open_cells(write_mtx(tmp_path / "sample", cells, matrix=turned)) as source:
        assert_same(source, as_tenx, same)
        assert source.why == "it is the file's one matrix, its cells are in rows, unlike 10x's"


def test_a_square_matrix_is_10x_s_unless_it_was_told(make_cells, tmp_path: Path, dense):
    cells = make_cells(sparse.csr_matrix([[1.0, 2.0], [0.0, 3.0]], dtype=np.float32))
    folder = write_mtx(tmp_path / "sample", cells)
    for told, expected in ((None, cells.X), ("columns", cells.X), ("rows", cells.X.T)):
        with open_cells(folder, cells_in=told) as source:
            assert np.array_equal(dense(source), expected.toarray())


def test_a_matrix_can_be_named_alone(cells, as_tenx, tmp_path: Path, same):
    for prefix in ("GSM1_", "GSM2_"):
        write_mtx(tmp_path / "both", cells[:, ::-1] if prefix == "GSM1_" else cells, prefix=prefix)
    with open_cells(tmp_path / "both" / "GSM2_matrix.mtx.gz") as source:
        assert_same(source, as_tenx, same)
    with pytest.raises(CellsError, match=r"holds 2 matrices: GSM1_matrix\.mtx\.gz, GSM2_.*; expected one"):
        open_cells(tmp_path / "both")


def test_one_set_with_a_prefix_is_found(cells, as_tenx, tmp_path: Path, same):
    write_mtx(tmp_path / "one", cells, prefix="GSM123_sample1.")
    put(tmp_path / "one" / "readme.txt", "x")
    with open_cells(tmp_path / "one") as source:
        assert_same(source, as_tenx, same)


def test_another_matrix_beside_10x_s_has_the_same_names(cells, as_tenx, tmp_path: Path, same):
    folder = write_mtx(tmp_path / "velocity", cells, version=2)
    (folder / "matrix.mtx").rename(folder / "spliced.mtx")
    with open_cells(folder / "spliced.mtx") as source:
        assert_same(source, as_tenx, same)


def test_a_file_beside_its_compressed_self_is_one(cells, as_tenx, tmp_path: Path, same):
    folder = write_mtx(tmp_path / "sample", cells)
    write_mtx(folder, cells, version=2)
    (folder / "genes.tsv").rename(folder / "features.tsv")
    with open_cells(folder) as source:
        assert_same(source, as_tenx, same)


def test_values_may_be_real_or_left_out(cells, tmp_path: Path, dense):
    entries, shape = genes_by_cells(cells)
    halves = [(row, column, f"{float(value) / 2:e}") for row, column, value in entries]
    with open_cells(write_mtx(tmp_path / "real", cells, matrix=market(halves, shape, "real"))) as source:
        assert np.array_equal(dense(source), cells.X.toarray() / 2)
    with open_cells(write_mtx(tmp_path / "pattern", cells, matrix=market(entries, shape, "pattern"))) as source:
        assert np.array_equal(dense(source), cells.X.toarray() > 0)


def test_other_features_are_left_out_and_said(cells, tmp_path: Path, dense):
    types = ["Gene Expression"] * 30 + ["Antibody Capture"] * 10
    folder = write_mtx(tmp_path / "sample", cells, types=types)
    with open_cells(folder) as source:
        assert source.why == "it is the file's one matrix, without 10 of Antibody Capture"
        assert source.gene_names["gene_ids"] == list(cells.var_names[:30])
        assert np.array_equal(dense(source), cells.X.toarray()[:, :30])
    with open_cells(folder, modality="antibody capture") as source:
        assert np.array_equal(dense(source), cells.X.toarray()[:, 30:])


def test_a_third_column_that_is_not_10x_s_is_no_type(cells, tmp_path: Path):
    with open_cells(write_mtx(tmp_path / "sample", cells, types=["lncRNA"] * cells.n_vars)) as source:
        assert source.n_genes == cells.n_vars


def test_a_list_of_one_column_names_the_genes(cells, tmp_path: Path):
    folder = write_mtx(tmp_path / "sample", cells, version=2)
    put(folder / "genes.tsv", "\r\n".join(f'"{name}"' for name in cells.var_names))
    with open_cells(folder) as source:
        assert source.gene_names["index"] == source.gene_names["gene_ids"] == list(cells.var_names)


def test_no_room_is_said_before_the_work(cells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(spool.shutil, "disk_usage", lambda _: usage(100, 100, 0))
    with pytest.raises(CellsError, match=r"matrix\.mtx needs a temporary file of .* 0 bytes free.*TMPDIR"):
        open_cells(write_mtx(tmp_path / "sample", cells, version=2), room=ReadingRoom(tape_bytes=80))


BANNER = "%%MatrixMarket matrix coordinate integer general\n"
MATRICES = {
    "empty": ("", r"matrix\.mtx is empty; expected a Matrix Market file"),
    "web page": ("<html>", r"matrix\.mtx is a web page"),
    "no banner": ("3 2 1\n1 1 1\n", r"begins '3 2 1'; expected a Matrix Market file"),
    "dense": ("%%MatrixMarket matrix array real general\n3 2\n", r"is array real general; expected coordinate"),
    "complex": (BANNER.replace("integer", "complex"), r"is coordinate complex general; expected"),
    "symmetric": (BANNER.replace("general", "symmetric"), r"is coordinate integer symmetric; expected"),
    "no sizes": (BANNER + "% comment\n", r"is ''; expected three whole numbers"),
    "bad sizes": (BANNER + "3 2\n", r"Line 2 of .* is '3 2'; expected three whole numbers"),
    "other sizes": (BANNER + "4 2 1\n1 1 1\n", r"is 4 by 2, but genes\.tsv names 3 features and barcodes\.tsv 2 cells"),
    "too few": (BANNER + "3 2 3\n1 1 1\n2 1 1\n", r"says that it has 3 entries, and 2 are there. It was cut short"),
    "too many": (BANNER + "3 2 1\n1 1 1\n2 1 1\n", r"says that it has 1 entries, and 2 are there. It is damaged"),
    "cut": (BANNER + "3 2 2\n1 1 1\n2 1", r"Line 4 of .* is '2 1'; expected a row, a column and a number.*cut short"),
    "text": (BANNER + "3 2 2\n%\n1 1 1\n2 1 x\n", r"Line 5 of .* is '2 1 x'; expected"),
    "outside": (BANNER + "3 2 2\n1 1 1\n1 3 1\n", r"Line 4 of .* is '1 3 1', outside the 3 rows and 2 columns"),
    "from zero": (BANNER + "3 2 2\n0 1 1\n1 1 1\n", r"Line 3 of .* counted from 1"),
}


@pytest.mark.parametrize(("content", "message"), MATRICES.values(), ids=MATRICES)
def test_a_bad_matrix_says_what_is_wrong_and_where(content: str, message: str, tmp_path: Path):
    put(tmp_path / "matrix.mtx", content)
    put(tmp_path / "genes.tsv", "A\nB\nC\n")
    put(tmp_path / "barcodes.tsv", "x\ny\n")
    with pytest.raises(CellsError, match=message):
        open_cells(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("barcodes.tsv", "x\ny\nx\n", r"1 names that several cells bear: 'x'"),
        ("barcodes.tsv", "x\ny\n", r"is 3 by 3, but genes\.tsv names 3 features and barcodes\.tsv 2 cells"),
        ("barcodes.tsv", "", r"barcodes\.tsv is empty; expected a list of barcodes"),
        ("genes.tsv", "A\tB\nC\nD\tE\n", r"Line 2 of .*genes\.tsv has 1 fields and the first one 2"),
        ("genes.tsv", "A\nB\nC\nD\n", r"names 4 features"),
        (
            "genes.tsv",
            "A\tA\tPeaks\nB\tB\tPeaks\nC\tC\tPeaks\n",
            r"no features of the type Gene Expression; it has Peaks",
        ),
    ],
)
def test_bad_lists_of_names_are_told(name: str, content: str, message: str, tmp_path: Path):
    files = {"genes.tsv": "A\nB\nC\n", "barcodes.tsv": "x\ny\nz\n", name: content}
    for each, text in files.items():
        put(tmp_path / each, text)
    put(tmp_path / "matrix.mtx", BANNER + "3 3 1\n1 1 1\n")
    with pytest.raises(CellsError, match=message):
        open_cells(tmp_path)


def test_told_orientation_must_fit_the_sizes(cells, tmp_path: Path):
    with pytest.raises(CellsError, match=r"names 40 features and .* 130 cells, told to be in rows"):
        open_cells(write_mtx(tmp_path / "sample", cells), cells_in="rows")


def test_a_cut_file_is_said_to_be_cut(cells, tmp_path: Path):
    path = write_mtx(tmp_path / "sample", cells) / "matrix.mtx.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CellsError, match=r"matrix\.mtx\.gz is cut short or damaged after line \d+"):
        open_cells(tmp_path / "sample")


def test_missing_files_are_named_with_what_is_there(cells, tmp_path: Path):
    folder = write_mtx(tmp_path / "outs" / "filtered", cells)
    with pytest.raises(CellsError, match=r"outs holds no matrix, but folders in it do: filtered\. Name one"):
        open_cells(tmp_path / "outs")
    (folder / "barcodes.tsv.gz").rename(folder / "cells.tsv.gz")
    with pytest.raises(CellsError, match=r"matrix\.mtx\.gz needs one barcodes\.tsv .* holds cells\.tsv\.gz, features"):
        open_cells(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CellsError, match=r"empty holds nothing; expected matrix\.mtx.*or a set of files of cells"):
        open_cells(tmp_path / "empty")


def test_names_of_another_sample_are_not_taken(cells, tmp_path: Path):
    write_mtx(tmp_path, cells, prefix="GSM2_")
    (tmp_path / "GSM2_matrix.mtx.gz").rename(tmp_path / "GSM1_matrix.mtx.gz")
    with pytest.raises(CellsError, match=r"GSM1_matrix\.mtx\.gz needs one features\.tsv or genes\.tsv"):
        open_cells(tmp_path)


def test_it_has_one_matrix(cells, tmp_path: Path):
    with pytest.raises(CellsError, match=r"sample holds one matrix, and the layer 'spliced' was asked for"):
        open_cells(write_mtx(tmp_path / "sample", cells), layer="spliced")
