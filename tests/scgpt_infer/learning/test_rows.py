"""Some rows of a source are a source."""

import numpy as np
import pytest

import scgpt_infer
from scgpt_infer.learning.rows import SomeRows
from scgpt_infer.readers import open_cells

ROWS = np.array([3, 4, 59, 60, 61, 200, 239])


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
        blocks = list(some.blocks(range_rows, stop))
        rows = ROWS[:stop]
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
