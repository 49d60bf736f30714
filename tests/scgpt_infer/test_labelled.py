"""Labelled cells: spread over the file, with the rows and labels that belong together."""

import numpy as np
import pytest

from cell_files import write_zarr
from scgpt_infer.labelled import read
from scgpt_runtime.errors import CellsError


def test_rows_and_labels_belong_together_and_are_spread_over_the_file(toy_adata, toy_h5ad):
    cells = read(toy_h5ad, "kind", 7, batch="index")
    rows = [int(name.removeprefix("cell-")) for name in cells.batches]
    assert (rows[0], rows[-1], len(rows)) == (0, toy_adata.n_obs - 1, 7)
    assert rows == sorted(rows)
    assert cells.labels.tolist() == [toy_adata.obs["kind"].iloc[row] for row in rows]
    for place, row in enumerate(rows):
        inside = slice(cells.block.indptr[place], cells.block.indptr[place + 1])
        expected = toy_adata.X[row]
        np.testing.assert_array_equal(cells.block.indices[inside], expected.indices)
        np.testing.assert_array_equal(cells.block.data[inside], expected.data)


def test_labels_of_another_format_are_the_same(toy_adata, toy_h5ad, tmp_path):
    path = write_zarr(toy_adata, tmp_path / "cells.zarr", 3)
    stored, expected = read(path, "kind", 50, batch="index"), read(toy_h5ad, "kind", 50, batch="index")
    assert stored.labels.tolist() == expected.labels.tolist()
    assert stored.batches.tolist() == expected.batches.tolist()
    np.testing.assert_array_equal(stored.block.data, expected.block.data)


def test_some_of_the_cells_keep_their_labels(toy_h5ad):
    cells = read(toy_h5ad, "kind", 2000, batch="index")
    assert cells.block.n_cells == 1100
    assert [block.n_cells for block in cells.blocks()] == [1024, 76]
    some = cells.only(np.array([2, 1099]))
    assert some.batches.tolist() == ["cell-2", "cell-1099"]
    assert some.block.n_cells == len(some.labels) == 2


def test_cells_without_a_label_are_left_out(toy_adata, tmp_path):
    toy_adata.obs["kind"] = toy_adata.obs["kind"].where(np.arange(1100) % 10 == 0)
    toy_adata.obs["none"] = np.full(1100, np.nan)
    toy_adata.write_h5ad(tmp_path / "some.h5ad")
    assert read(tmp_path / "some.h5ad", "kind", 2000).block.n_cells == 110
    with pytest.raises(CellsError, match=r"Column 'none' of obs of .* is empty for all 1,100 cells"):
        read(tmp_path / "some.h5ad", "none", 10)


def test_an_unknown_column_is_told_with_those_there_are(toy_h5ad):
    for given in ({"label": "type"}, {"label": "kind", "batch": "type"}):
        with pytest.raises(CellsError, match=r"has no column 'type'; it has kind. Choose one of them"):
            read(toy_h5ad, limit=10, **given)
