"""An AnnData object gives the blocks that its file gives, and stays as it was."""

from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from scgpt_infer.readers import open_cells
from scgpt_infer.spans import grid
from scgpt_runtime.errors import CellsError

KINDS = {
    "csr_matrix": sparse.csr_matrix,
    "csc_matrix": sparse.csc_matrix,
    "csr_array": sparse.csr_array,
    "csc_array": sparse.csc_array,
    "array": lambda matrix: matrix.toarray(),
    "matrix": lambda matrix: matrix.todense(),
    "float64": lambda matrix: sparse.csr_matrix(matrix, dtype=np.float64),
    "int32": lambda matrix: sparse.csr_matrix(matrix, dtype=np.int32),
    "fortran": lambda matrix: np.asfortranarray(matrix.toarray()),
}


def blocks_equal(ours, theirs, same) -> bool:
    pairs = list(zip(ours.blocks(grid(ours.n_cells, 48)), theirs.blocks(grid(theirs.n_cells, 48)), strict=True))
    return len(pairs) > 1 and all(same(*pair) for pair in pairs)


@pytest.mark.filterwarnings("ignore:X should not be a np.matrix")
@pytest.mark.parametrize("kind", KINDS)
def test_object_and_file_give_identical_blocks(kind: str, counts, make_cells, tmp_path: Path, same, dense):
    cells = make_cells(KINDS[kind](counts))
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    with open_cells(cells) as memory, open_cells(tmp_path / "cells.h5ad") as file, open_cells(backed) as stored:
        assert np.array_equal(dense(memory), counts.toarray())
        assert blocks_equal(memory, file, same)
        assert blocks_equal(stored, file, same)
        for source in (memory, stored):
            assert (source.counts, source.values, source.why) == (file.counts, file.values, file.why)
            assert dict(source.gene_names) == dict(file.gene_names)
            assert source.cell_names(10, 20) == file.cell_names(10, 20)
            assert source.path is None
    backed.file.close()


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_matrix", "array"])
@pytest.mark.parametrize("backed", [False, True])
def test_views_give_what_their_copy_gives(kind: str, backed: bool, counts, make_cells, tmp_path: Path, same):
    make_cells(KINDS[kind](counts)).write_h5ad(tmp_path / "cells.h5ad")
    cells = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r" if backed else None)
    memory = ad.read_h5ad(tmp_path / "cells.h5ad")
    picks = [
        (memory.obs.cell_type == "T", slice(None)),
        (slice(20, 100), slice(0, 30)),
        (np.arange(129, 0, -2), np.arange(0, 40, 3)),
    ]
    for rows, columns in picks:
        with open_cells(cells[rows, columns]) as view, open_cells(memory[rows, columns].copy()) as copied:
            assert (view.n_cells, view.n_genes) == (copied.n_cells, copied.n_genes)
            assert blocks_equal(view, copied, same)
            assert view.cell_names(3, 9) == copied.cell_names(3, 9)
            assert dict(view.gene_names) == dict(copied.gene_names)
    if backed:
        cells.file.close()


def test_layers_and_raw_of_views_and_backed_objects(cells: ad.AnnData, tmp_path: Path, same, dense):
    cells.layers["twice"] = cells.X * 2
    cells.raw = cells.copy()
    cells = cells[:, :9].copy()
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    for layer, n_genes in (("raw", 40), ("twice", 9)):
        with open_cells(tmp_path / "cells.h5ad", layer=layer) as file:
            expected = dense(file)
            assert expected.shape[1] == n_genes
            for whole in (cells, backed):
                with open_cells(whole, layer=layer) as source, open_cells(whole[10:110], layer=layer) as view:
                    assert blocks_equal(source, file, same)
                    assert np.array_equal(dense(view), expected[10:110])
                    assert dict(source.gene_names) == dict(file.gene_names) == dict(view.gene_names)
    backed.file.close()


def test_the_object_is_not_changed(cells: ad.AnnData):
    matrix = sparse.csr_matrix(([1.0, 0.0, 5.0, 5.0], [2, 1, 0, 0], [0, 3, 4]), shape=(2, 3))  # unsorted, twice, zero
    messy = ad.AnnData(matrix.copy())
    with open_cells(messy) as source:
        for block in source.blocks(grid(source.n_cells, 1)):
            block.data[:] = -1  # what is done to a block stays in the block
            block.indices[:] = 0
        source.gene_names["index"]
    assert messy.X.data.tolist() == matrix.data.tolist()
    assert messy.X.indices.tolist() == matrix.indices.tolist()
    view = cells[:50]
    with open_cells(view) as source:
        list(source.blocks(grid(source.n_cells, 16)))
    assert view.is_view


def test_names_of_every_kind_become_text(cells: ad.AnnData):
    cells.var["gene_ids"] = [None, *range(1, cells.n_vars)]
    cells.var["gene_name"] = cells.var["feature_name"].astype("string").where(np.arange(cells.n_vars) > 0)
    cells.var["feature_name"] = cells.var["feature_name"].astype("category")
    with open_cells(cells) as source:
        assert list(source.gene_names) == ["feature_name", "gene_name", "gene_ids", "index"]
        assert source.gene_names["gene_name"][:2] == ["", "GENE1"]
        assert source.gene_names["gene_ids"][0] == ""
        assert source.gene_names["feature_name"][:2] == ["GENE0", "GENE1"]


def test_a_matrix_of_another_kind_is_named(cells: ad.AnnData):
    cells.layers["counts"] = np.ma.masked_array(cells.X.toarray())
    with pytest.raises(CellsError, match="MaskedArray; expected a scipy CSR or CSC matrix or a numpy array"):
        open_cells(cells)
