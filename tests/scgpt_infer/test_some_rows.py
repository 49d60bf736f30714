"""Some rows of a source are a source."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scgpt_infer
import toy_bundle
from scgpt_infer.readers import open_cells
from scgpt_infer.some_rows import SomeRows
from scgpt_infer.spans import grid

ROWS = np.array([3, 4, 59, 60, 61, 200, 239])


@pytest.fixture
def labelled() -> ad.AnnData:
    rng = np.random.default_rng(3)
    counts = rng.poisson(0.5, (240, toy_bundle.GENES)).astype(np.float32)
    obs = pd.DataFrame({"donor": [f"donor-{row % 4}" for row in range(240)]}, [f"cell-{row}" for row in range(240)])
    var = pd.DataFrame(index=[f"G{gene}" for gene in range(toy_bundle.GENES)])
    return ad.AnnData(sparse.csr_matrix(counts), obs, var)


def dense(blocks, n_genes):
    found = []
    for block in blocks:
        part = np.zeros((block.n_cells, n_genes), np.float32)
        for cell in range(block.n_cells):
            values = slice(block.indptr[cell], block.indptr[cell + 1])
            part[cell, block.indices[values]] = block.data[values]
        found.append(part)
    return np.concatenate(found)


@pytest.mark.parametrize("range_rows", [2, 7, 50, 1024])
@pytest.mark.parametrize("stop", [None, 4])
def test_blocks_hold_the_rows_and_count_from_zero(labelled, range_rows, stop):
    with SomeRows(open_cells(labelled), ROWS) as some:
        rows = ROWS[:stop]
        blocks = list(some.blocks(grid(len(rows), range_rows)))
        assert [block.first_row for block in blocks] == list(range(0, len(rows), range_rows))
        np.testing.assert_array_equal(dense(blocks, some.n_genes), labelled.X[rows].toarray())


def test_names_columns_and_stored_vectors_are_those_of_the_rows(labelled, toy_model):
    embedded = scgpt_infer.embed(labelled, model=toy_model, provider="cpu")
    some = SomeRows(open_cells(embedded), ROWS)
    assert some.cell_names(1, 4) == ["cell-4", "cell-59", "cell-60"]
    assert some.cell_names(2, 2) == []
    assert some.cell_column("donor").tolist() == embedded.obs["donor"].iloc[ROWS].tolist()
    stored = some.stored("X_scGPT")
    assert stored.n_cells == some.n_cells == 7
    np.testing.assert_array_equal(stored.read(2, 7), embedded.obsm["X_scGPT"][ROWS[2:]])
    assert some.stored("X_other") is None


def test_cells_that_are_not_to_be_taken_for_the_file_name_none(labelled, tmp_path):
    labelled.write_h5ad(tmp_path / "cells.h5ad")
    with open_cells(tmp_path / "cells.h5ad") as source:
        assert SomeRows(source, ROWS).path == tmp_path / "cells.h5ad"
        assert SomeRows(source, ROWS, of_file=False).path is None
