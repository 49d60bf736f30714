"""Several files as one data set: genes in any order, files that are bad from the start or on the way."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from cell_files import write_tenx, write_zarr
from scgpt_infer.readers import open_cells
from scgpt_infer.readers.files import FILE
from scgpt_infer.readers.kept_open import KEPT
from scgpt_infer.readers.source import UNREAD, SetOfFiles
from scgpt_infer.spans import grid
from scgpt_runtime.errors import CellsError

N_GENES = 40


def cells_of(n_cells: int, genes: Sequence[int] = range(N_GENES), seed: int = 0, **obs: object) -> ad.AnnData:
    counts = np.random.default_rng(seed).poisson(0.5, (n_cells, N_GENES * 2)).astype(np.float32)[:, list(genes)]
    var = pd.DataFrame({"feature_name": [f"GENE{i}" for i in genes]}, [f"ENSG{i:011d}" for i in genes])
    table = pd.DataFrame(obs, [f"cell-{i}" for i in range(n_cells)])
    return ad.AnnData(sparse.csr_matrix(counts), obs=table, var=var)


def write(folder: Path, **files: ad.AnnData) -> list[Path]:
    paths = []
    for name, cells in files.items():
        paths.append(folder / f"{name}.h5ad")
        cells.write_h5ad(paths[-1])
    return paths


def by_gene(counts: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """Values by the names of genes; those that a file does not have are zero."""
    return pd.DataFrame(counts, columns=list(names))


def check_values(source, dense: Callable[..., np.ndarray], files: Sequence[ad.AnnData], column: str) -> None:
    found = by_gene(dense(source), source.gene_names[column])
    assert found.columns.is_unique
    first = 0
    for cells in files:
        rows = found.iloc[first : first + cells.n_obs]
        names = list(cells.var.get(column, cells.var_names))
        np.testing.assert_array_equal(rows[names].to_numpy(), cells.X.toarray())
        assert not rows.drop(columns=names).to_numpy().any()
        first += cells.n_obs
    assert first == source.n_cells


def test_genes_in_any_order_and_some_more_are_one_union(dense, tmp_path: Path):
    files = [
        cells_of(30),
        cells_of(50, range(N_GENES - 1, -1, -1), seed=1),
        cells_of(20, [*range(10, 30), 70, 60], seed=2),
    ]
    paths = write(tmp_path, a=files[0], b=files[1], c=files[2])
    with open_cells(paths) as source:
        assert (source.n_cells, source.n_genes) == (100, N_GENES + 2)
        assert list(source.gene_names) == ["feature_name", "index"]
        for column in source.gene_names:
            assert source.gene_names[column][-2:] == {"feature_name": ["GENE70", "GENE60"]}.get(
                column, ["ENSG00000000070", "ENSG00000000060"]
            )
        check_values(source, dense, files, "feature_name")
        assert "3 files with 42 genes in all" in source.why


def test_names_may_stand_in_other_columns(dense, tmp_path: Path):
    """Symbols in the index, without or with ids in a column; in a 10x file both, under names of its own."""
    plain, with_ids = cells_of(20, range(35, 3, -1), seed=1), cells_of(25, range(50), seed=2)
    plain.var_names = plain.var.pop("feature_name").astype(str)
    with_ids.var = pd.DataFrame({"gene_ids": with_ids.var_names}, with_ids.var["feature_name"].astype(str))
    tenx = cells_of(15, range(N_GENES), seed=3)
    paths = write(tmp_path, a=cells_of(30), b=plain, c=with_ids)
    symbols = list(tenx.var["feature_name"])
    paths.append(write_tenx(tmp_path / "d.h5", tenx.X, list(tenx.var_names), symbols, list(tenx.obs_names)))
    with open_cells(paths) as source:
        assert source.n_genes == 50
        found = by_gene(dense(source), source.gene_names["feature_name"])
        for first, cells, names in (
            (30, plain, plain.var_names),
            (50, with_ids, with_ids.var_names),
            (75, tenx, symbols),
        ):
            rows = found.iloc[first : first + cells.n_obs]
            np.testing.assert_array_equal(rows[list(names)].to_numpy(), cells.X.toarray())
        assert source.gene_names["index"][45] == "ENSG00000000045"


def test_genes_are_one_only_where_all_their_names_agree(tmp_path: Path):
    """A symbol that moved to another gene must not carry its counts along."""
    other = cells_of(20, seed=1)
    other.var["feature_name"] = ["GENE1", "GENE0", *other.var["feature_name"][2:]]
    with open_cells(write(tmp_path, a=cells_of(30), b=other)) as source:
        assert source.n_genes == N_GENES + 2
        assert source.gene_names["index"][-2:] == ["ENSG00000000000", "ENSG00000000001"]
        assert source.gene_names["feature_name"][-2:] == ["GENE1", "GENE0"]


def test_two_genes_of_one_name_stay_two(dense, tmp_path: Path):
    files = [cells_of(10), cells_of(12, seed=1)]
    for cells in files:
        cells.var_names = ["twice", "twice", *cells.var_names[2:]]
        del cells.var["feature_name"]
    with open_cells(write(tmp_path, a=files[0], b=files[1])) as source:
        assert source.n_genes == N_GENES
        np.testing.assert_array_equal(dense(source), np.vstack([cells.X.toarray() for cells in files]))


def test_a_column_that_is_asked_for_must_be_in_all_files(tmp_path: Path):
    files = [cells_of(10), cells_of(12, range(20), seed=1)]
    for cells in files:
        cells.var["own"] = [f"own-{name}" for name in cells.var_names]
    files[1].var["own"] = ["own-x", *files[1].var["own"][1:]]
    paths = write(tmp_path, a=files[0], b=files[1])
    with open_cells(paths) as source:
        assert source.n_genes == N_GENES
        assert source.gene_column("own")[-1] == "own-x"
        assert source.n_genes == N_GENES + 1  # they are one no more
    write(tmp_path, c=cells_of(5))
    with (
        open_cells([*paths, tmp_path / "c.h5ad"]) as source,
        pytest.raises(CellsError, match=r"c\.h5ad has no gene column"),
    ):
        source.gene_column("own")


def test_cells_keep_their_names_and_tell_their_file(tmp_path: Path):
    one = cells_of(
        3, cell_type=pd.Categorical(["T", "B", "T"]), depth=[1, 2, 3], both=[1, 2, 3], ok=[True, False, True]
    )
    two = cells_of(2, seed=1, cell_type=pd.Categorical(["NK", "B"]), donor=["x", "y"], both=["p", "q"])
    (tmp_path / "s1").mkdir()
    (tmp_path / "s2").mkdir()
    paths = [*write(tmp_path / "s1", cells=one), *write(tmp_path / "s2", cells=two)]
    with open_cells(paths) as source:
        assert source.cell_names(1, 5) == ["cell-1", "cell-2", "cell-0", "cell-1"]
        assert source.cell_names(4, 9) == ["cell-1"]
        assert source.cell_columns[0] == FILE
        files = ["s1/cells.h5ad"] * 3 + ["s2/cells.h5ad"] * 2
        assert source.cell_column(FILE).tolist() == files
        assert source.cell_column("donor").tolist() == ["", "", "", "x", "y"]
        assert source.cell_column("index").tolist() == source.cell_names(0, 5)
        with pytest.raises(CellsError, match="no column 'batch'; it has scgpt_file, cell_type"):
            source.cell_column("batch")
        table = source.cell_table()
    assert table[FILE].tolist() == files
    assert table["cell_type"].tolist() == ["T", "B", "T", "NK", "B"]
    assert table["cell_type"].dtype == "category"
    assert table["both"].tolist() == ["1", "2", "3", "p", "q"]
    assert table["depth"].isna().tolist() == [False] * 3 + [True] * 2
    assert table["donor"].isna().tolist() == [True] * 3 + [False] * 2
    assert table["ok"].dropna().tolist() == [True, False, True]


@pytest.mark.parametrize("how", ["folder", "text", "pattern", "list of a folder"])
def test_a_folder_and_a_pattern_are_their_files_by_name(how: str, tmp_path: Path):
    write(tmp_path, b=cells_of(5), a=cells_of(3))
    write_zarr(cells_of(4), tmp_path / "c.zarr", 3)
    (tmp_path / "notes.txt").write_text("no cells")
    (tmp_path / "._b.h5ad").write_text("what another system leaves behind")
    named = {
        "folder": tmp_path,
        "text": str(tmp_path),
        "pattern": f"{tmp_path}/[abc].*",
        "list of a folder": [tmp_path],
    }[how]
    with open_cells(named) as source:
        assert [file.name for file in source.files] == ["a.h5ad", "b.h5ad", "c.zarr"]
        assert [file.n_cells for file in source.files] == [3, 5, 4]
        assert source.path == (tmp_path if how in ("folder", "text") else None)
        assert isinstance(source, SetOfFiles)


def test_one_file_of_a_list_is_that_file(tmp_path: Path):
    paths = write(tmp_path, a=cells_of(3))
    with open_cells(paths) as source:
        assert source.path == paths[0]
        assert not isinstance(source, SetOfFiles)


def test_what_names_no_set_is_said(tmp_path: Path):
    (path,) = write(tmp_path, a=cells_of(3))
    with pytest.raises(CellsError, match="No file has a name like"):
        open_cells(f"{tmp_path}/*.zarr")
    with pytest.raises(CellsError, match="is named twice"):
        open_cells([path, tmp_path / ".." / tmp_path.name / "a.h5ad"])
    with pytest.raises(CellsError, match="No file of cells was named"):
        open_cells([])


def test_bad_files_are_left_out_and_listed(dense, tmp_path: Path):
    good = [cells_of(10), cells_of(12, seed=1)]
    stranger = cells_of(9)
    stranger.var_names = [f"gene-{i}" for i in range(N_GENES)]
    del stranger.var["feature_name"]
    paths = write(tmp_path, a=good[0], c=stranger, d=good[1])
    (tmp_path / "b.h5ad").write_bytes(b"no file of cells")
    paths = [tmp_path / "0.h5ad", tmp_path / "b.h5ad", *paths]
    with open_cells(paths) as source:
        check_values(source, dense, good, "feature_name")
        assert source.paths == tuple(paths)
        told = {Path(bad.path).name: bad.reason for bad in source.bad_files()}
    assert list(told) == ["0.h5ad", "b.h5ad", "c.h5ad"]
    assert "There is no file" in told["0.h5ad"]
    assert "is not an HDF5 file" in told["b.h5ad"]
    assert "no gene in common with the first file: its genes are called gene-0" in told["c.h5ad"]
    with pytest.raises(CellsError, match="There is no file"):
        open_cells(paths, strict=True)
    with pytest.raises(CellsError, match=r"None of the 2 files can be read: There is no file"):
        open_cells(paths[:2])


def break_chunk(path: Path, number: int) -> None:
    """Damage one chunk of the values."""
    with h5py.File(path) as file:
        chunk = file["X/data"].id.get_chunk_info(number)
    state = path.stat()
    with path.open("r+b") as stream:
        stream.seek(chunk.byte_offset)
        stream.write(b"\xff" * chunk.size)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_rows_that_cannot_be_read_are_empty_and_have_a_reason(tmp_path: Path):
    """The file breaks between opening and reading, so that the sample does not find it."""
    first, second = cells_of(100), cells_of(3000, seed=1)
    paths = write(tmp_path, a=first)
    paths.append(tmp_path / "b.h5ad")
    second.write_h5ad(paths[1], compression="gzip")
    with open_cells(paths) as source:
        break_chunk(paths[1], 3)
        blocks = list(source.blocks(grid(source.n_cells, 128)))
        unread = source.unread(0, source.n_cells)
        assert unread
        assert set(unread) < set(range(100, 3100))  # a part of the file alone
        assert all(why.startswith(f"{UNREAD} b.h5ad: ") for why in unread.values())
        found = sparse.vstack(
            [sparse.csr_matrix((b.data, b.indices, b.indptr), (b.n_cells, source.n_genes)) for b in blocks]
        ).toarray()
        expected = np.vstack([first.X.toarray(), second.X.toarray()])
        expected[list(unread)] = 0
        np.testing.assert_array_equal(found, expected)
        (bad,) = source.bad_files(set(unread.values()))
        assert bad.path == str(paths[1])
        assert source.unread(0, 100) == {}
        assert source.bad_files() == ()


def test_strict_ends_at_a_file_that_breaks(tmp_path: Path):
    paths = write(tmp_path, a=cells_of(100))
    cells_of(3000, seed=1).write_h5ad(tmp_path / "b.h5ad", compression="gzip")
    with open_cells([*paths, tmp_path / "b.h5ad"], strict=True) as source:
        break_chunk(tmp_path / "b.h5ad", 3)
        with pytest.raises(CellsError, match=r"b\.h5ad cannot be read"):
            list(source.blocks(grid(source.n_cells)))


@pytest.mark.parametrize("how", ["gone", "changed"])
def test_a_file_that_goes_away_ends_it_so_that_it_can_go_on_later(how: str, tmp_path: Path):
    paths = write(tmp_path, a=cells_of(100), b=cells_of(100, seed=1))
    with open_cells(paths) as source:
        if how == "gone":
            paths[1].unlink()
        else:
            paths[1].write_bytes(paths[0].read_bytes() + b"and more")
        blocks = source.blocks([range(0, 100), range(100, 200)])
        assert next(blocks).n_cells == 100
        with pytest.raises(CellsError, match="is not there any more" if how == "gone" else "was changed while"):
            next(blocks)


def test_files_may_differ_in_their_matrix_and_values_and_it_is_said(tmp_path: Path):
    raw, logged, layered = cells_of(60), cells_of(60, seed=1), cells_of(60, seed=2)
    totals = np.maximum(logged.X.sum(axis=1), 1)
    logged.X = sparse.csr_matrix(np.log1p(logged.X.toarray() / np.asarray(totals) * 1e4).astype(np.float32))
    logged.uns["log1p"] = {}
    layered.layers["counts"] = layered.X.copy()
    with open_cells(write(tmp_path, a=raw, b=raw, c=logged, d=layered)) as source:
        assert source.counts == "X, layers/counts"
        assert source.values == "integer, log1p"
        assert "the matrix is X in 3 of them, layers/counts in d.h5ad" in source.why
        assert "the values are integer in 3 of them, log1p in c.h5ad" in source.why


def test_an_index_outside_of_its_file_is_not_a_gene_of_another(tmp_path: Path):
    few = cells_of(30, range(10), seed=1)
    paths = write(tmp_path, a=cells_of(30), b=few)
    with h5py.File(paths[1], "r+") as file:
        file["X/indices"][0] = 25
    with open_cells(paths) as source:
        (block,) = source.blocks([range(30, 60)])
    assert block.indices[0] == -1


def test_spans_come_as_they_are_asked_for(dense, tmp_path: Path):
    paths = write(tmp_path, **{f"f{i}": cells_of(i + 1, seed=i) for i in range(12)})
    with open_cells(paths) as source:
        whole = dense(source)
        for block in source.blocks([range(70, 78), range(3, 50), range(0, 0)]):
            rows = sparse.csr_matrix((block.data, block.indices, block.indptr), (block.n_cells, source.n_genes))
            np.testing.assert_array_equal(rows.toarray(), whole[block.first_row :][: block.n_cells])


def test_few_files_are_open_at_a_time(tmp_path: Path):
    def n_open() -> int:
        return sum(1 for one in Path("/proc/self/fd").iterdir() if str(tmp_path) in os.path.realpath(one))

    if not Path("/proc/self/fd").exists():
        pytest.skip("tells open files on Linux alone")
    paths = write(tmp_path, **{f"f{i:02}": cells_of(3, seed=i) for i in range(20)})
    with open_cells(paths) as source:
        assert 0 < n_open() <= KEPT
        for _ in source.blocks(grid(source.n_cells, 7)):
            assert n_open() <= KEPT
        assert source.sample(20).n_cells == 20
        assert n_open() <= KEPT
    assert n_open() == 0


def test_a_set_is_opened_without_pandas(tmp_path: Path):
    paths = write(tmp_path, a=cells_of(3), b=cells_of(4))
    code = (
        "import sys; from scgpt_infer.readers import open_cells\n"
        f"source = open_cells({[str(path) for path in paths]!r})\n"
        "list(source.blocks([range(7)])); sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_small_file_is_opened_once_for_rows_and_names(tmp_path: Path, monkeypatch):
    paths = write(tmp_path, **{f"f{i:02}": cells_of(10, seed=i) for i in range(12)})
    with open_cells(paths) as source:
        opened = []
        monkeypatch.setattr(
            h5py,
            "File",
            lambda path, *args, _file=h5py.File, **how: (opened.append(path), _file(path, *args, **how))[1],
        )
        for block in source.blocks([range(0, 60), range(60, 120)]):  # a reading thread is ahead of names
            assert block.n_cells == 60
        assert source.cell_names(0, 120) == [f"cell-{i}" for _ in paths for i in range(10)]
        assert len(opened) == len(set(opened))


def test_reading_says_what_memory_it_takes(tmp_path: Path):
    paths = write(tmp_path, a=cells_of(100), b=cells_of(300, seed=1), c=cells_of(50, seed=2))
    with open_cells(paths) as source, open_cells(paths[1]) as largest:
        assert source.rows.weight(1024, N_GENES) > largest.rows.weight(1024, N_GENES)
        assert source.rows.weight(1024, N_GENES) < 10_000_000
