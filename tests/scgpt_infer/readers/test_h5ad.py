import os
import tracemalloc
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest
from scipy import sparse

from scgpt_infer.readers import open_cells
from scgpt_infer.spans import grid
from scgpt_runtime.errors import CellsError

DATA = os.environ.get("SCGPT_INFER_DATA")


@pytest.fixture
def written(cells: ad.AnnData, tmp_path: Path) -> Path:
    path = tmp_path / "cells.h5ad"
    cells.write_h5ad(path, compression="gzip")
    return path


def test_blocks_lie_on_the_grid_and_hold_the_matrix(written: Path, counts: sparse.csr_matrix, dense):
    with open_cells(written) as source:
        assert (source.path, source.n_cells, source.n_genes) == (written, *counts.shape)
        blocks = list(source.blocks(grid(130, 48)))
        assert [(block.first_row, block.n_cells) for block in blocks] == [(0, 48), (48, 48), (96, 34)]
        assert np.array_equal(dense(source), counts.toarray())


def test_blocks_are_the_spans_that_were_asked_for(written: Path):
    spans = [range(96, 130), range(0, 48), range(5, 6)]
    with open_cells(written) as source:
        assert [(block.first_row, block.n_cells) for block in source.blocks(spans)] == [(96, 34), (0, 48), (5, 1)]


def test_names_are_read_by_range(written: Path):
    with open_cells(written) as source:
        assert source.cell_names(98, 101) == ["cell-98", "cell-99", "cell-100"]
        assert list(source.gene_names) == ["feature_name", "index"]
        assert source.gene_names["feature_name"][:2] == ["GENE0", "GENE1"]
        assert source.gene_names["index"][39] == "ENSG00000000039"


def test_any_column_of_var_can_be_asked_for(cells: ad.AnnData, tmp_path: Path):
    cells.var["mine"] = [f"M{i}" for i in range(cells.n_vars)]
    cells.var.index.name = "ensembl"
    cells.write_h5ad(tmp_path / "cells.h5ad")
    with open_cells(tmp_path / "cells.h5ad") as source:
        assert source.gene_column("mine")[5] == "M5"
        assert list(source.gene_names) == ["feature_name", "index", "mine"]
        assert source.gene_column("ensembl") == source.gene_names["index"]
        with pytest.raises(CellsError, match=r"no gene column 'symbol'; it has feature_name, mine, ensembl, index"):
            source.gene_column("symbol")


def test_raw_has_its_own_genes(cells: ad.AnnData, counts: sparse.csr_matrix, tmp_path: Path, dense):
    whole = cells.copy()
    narrowed = whole[:, :7].copy()
    narrowed.raw = whole
    narrowed.write_h5ad(tmp_path / "cells.h5ad")
    with open_cells(tmp_path / "cells.h5ad", layer="raw") as source:
        assert (source.counts, source.n_genes) == ("raw/X", 40)
        assert source.gene_names["feature_name"][39] == "GENE39"
        assert np.array_equal(dense(source), counts.toarray())
    with open_cells(tmp_path / "cells.h5ad") as source:
        assert (source.counts, source.n_genes, len(source.gene_names["index"])) == ("X", 7, 7)


def test_a_log_said_by_the_file_is_believed(cells: ad.AnnData, tmp_path: Path):
    factors = np.random.default_rng(0).uniform(0.5, 2, cells.shape)  # values that do not tell that they were logged
    cells.X = np.log1p(cells.X.toarray() * factors)
    cells.write_h5ad(tmp_path / "silent.h5ad")
    cells.uns["log1p"] = {"base": None}
    cells.write_h5ad(tmp_path / "said.h5ad")
    with open_cells(tmp_path / "silent.h5ad") as silent, open_cells(tmp_path / "said.h5ad") as said:
        assert (silent.values, said.values) == ("normalised", "log1p")


def test_the_sample_is_spread_over_the_file_and_always_the_same(make_cells, tmp_path: Path, same):
    n_cells = 5000
    matrix = sparse.csr_matrix((np.arange(1, n_cells + 1), (np.arange(n_cells), np.zeros(n_cells, int))))
    make_cells(matrix.astype(np.float32)).write_h5ad(tmp_path / "cells.h5ad")
    with open_cells(tmp_path / "cells.h5ad") as source:
        sample = source.sample()
        assert sample.n_cells == 1000
        assert (sample.data.min(), sample.data.max()) == (1, n_cells)
        assert np.diff(sample.data).max() < 120  # no part of the file is left out
        assert same(sample, source.sample())
        assert source.sample(60).n_cells == 60


@pytest.mark.parametrize("storage", ["csr", "dense"])
def test_memory_does_not_grow_with_the_file(storage: str, make_cells, tmp_path: Path):
    matrix = sparse.random(20_000, 200, 0.5, format="csr", random_state=0, dtype=np.float32)
    cells = make_cells(matrix if storage == "csr" else matrix.toarray())
    cells.write_h5ad(tmp_path / "cells.h5ad", compression="lzf")
    del cells
    tracemalloc.start()
    with open_cells(tmp_path / "cells.h5ad") as source:
        n_values = sum(len(block.data) for block in source.blocks(grid(source.n_cells, 256)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n_values == matrix.nnz
    assert peak < matrix.data.nbytes / 2  # 8 MB of values; the sample of 1,000 rows is what takes most


def test_files_from_before_anndata_0_7_are_read(cells: ad.AnnData, counts: sparse.csr_matrix, tmp_path: Path, dense):
    path = tmp_path / "old.h5ad"
    obs = np.array([(f"cell-{i}".encode(), i % 2) for i in range(130)], [("index", "S10"), ("louvain", "i1")])
    var = np.array([(f"E{i}".encode(), i % 3) for i in range(40)], [("index", "S10"), ("gene_name", "i1")])
    with h5py.File(path, "w") as file:
        group = file.create_group("X")
        group.attrs["h5sparse_format"], group.attrs["h5sparse_shape"] = "csr", counts.shape
        for name in ("indptr", "indices", "data"):
            group[name] = getattr(counts, name)
        file["obs"], file["var"] = obs, var
        file["uns/gene_name_categories"] = np.array([b"A", b"B", b"C"])
        file["raw.X"], file["raw.var"] = counts.toarray(), var
    with open_cells(path) as source:
        assert np.array_equal(dense(source), counts.toarray())
        assert source.cell_names(1, 3) == ["cell-1", "cell-2"]
        assert source.gene_names["index"][:2] == ["E0", "E1"]
        assert source.gene_names["gene_name"][:4] == ["A", "B", "C", "A"]
    with open_cells(path, layer="raw") as source:
        assert np.array_equal(dense(source), counts.toarray())


def test_closing_frees_the_file(written: Path):
    with open_cells(written) as source:
        source.sample()
    with h5py.File(written, "r+") as file:  # refused while the same process reads it
        assert "X" in file


@pytest.mark.data
@pytest.mark.skipif(DATA is None, reason="SCGPT_INFER_DATA names no folder of real data")
@pytest.mark.parametrize("name", ["pbmc3k_labelled", "kang18_ctrl_12k"])
def test_real_cells_are_what_anndata_reads(name: str, same):
    path = Path(str(DATA)) / f"{name}.h5ad"
    theirs = ad.read_h5ad(path)
    with open_cells(path) as source, open_cells(theirs) as memory:
        assert (source.counts, source.values, source.n_cells, source.n_genes) == ("X", "integer", *theirs.shape)
        for stored, held in zip(
            source.blocks(grid(source.n_cells, 1024)), memory.blocks(grid(memory.n_cells, 1024)), strict=True
        ):
            rows = theirs.X[stored.first_row : stored.first_row + stored.n_cells]
            assert np.array_equal(stored.indptr, rows.indptr)
            assert np.array_equal(stored.indices, rows.indices)
            assert np.array_equal(stored.data, rows.data)
            assert same(stored, held)
        assert source.gene_names["index"] == memory.gene_names["index"] == list(theirs.var_names)
        assert source.cell_names(0, source.n_cells) == list(theirs.obs_names)
