from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from scgpt_infer.readers import open_cells
from scgpt_infer.readers.counts import recognise
from scgpt_infer.readers.matrix import CsrRows, DenseRows
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import CellsError


def block_of(matrix: object) -> CellBlock:
    if not sparse.issparse(matrix):
        return DenseRows(matrix, "X").read(0, len(matrix))
    csr = sparse.csr_matrix(matrix)
    return CsrRows(csr.indptr, csr.indices, csr.data, csr.shape, "X").read(0, csr.shape[0])


def normalised(counts: sparse.csr_matrix, target: float = 1e4) -> np.ndarray:
    dense = counts.toarray().astype(np.float64)
    return dense / np.maximum(dense.sum(axis=1, keepdims=True), 1) * target


def scaled(counts: sparse.csr_matrix) -> np.ndarray:
    logged = np.log1p(normalised(counts))
    return ((logged - logged.mean(axis=0)) / (logged.std(axis=0) + 1e-9)).astype(np.float32)


@pytest.mark.parametrize(
    ("change", "values"),
    [
        (lambda counts: counts, "integer"),
        (normalised, "normalised"),
        (lambda counts: np.log1p(normalised(counts)), "log1p"),
        (lambda counts: np.log1p(normalised(counts)).astype(np.float16), "log1p"),
        (lambda counts: np.log1p(normalised(counts, 1e6)), "log1p"),
        (lambda counts: normalised(counts, 1.0), "normalised"),
        (lambda counts: normalised(counts, 10.0), "normalised"),
        (scaled, "scaled"),
        (lambda counts: counts * 0, "integer"),
    ],
)
def test_values_are_recognised(change, values: str, counts: sparse.csr_matrix):
    assert recognise(block_of(change(counts)), logged=False).values == values


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -3.0])
def test_a_few_bad_values_do_not_hide_what_the_rest_is(bad: float, counts: sparse.csr_matrix):
    for change, values in ((lambda c: c.toarray(), "integer"), (lambda c: np.log1p(normalised(c)), "log1p")):
        dense = np.array(change(counts), np.float64)
        dense[7, :3] = bad
        assert recognise(block_of(dense), logged=False).values == values


def test_half_of_the_rows_is_not_yet_scaled():
    dense = np.ones((10, 3), np.float32)
    dense[:5, 1] = -1
    assert recognise(block_of(dense), logged=False).values == "integer"
    dense[5, 1] = -1
    look = recognise(block_of(dense), logged=False)
    assert (look.values, look.n_rows, look.n_negative) == ("scaled", 10, 6)


@pytest.fixture
def layered(cells: ad.AnnData) -> ad.AnnData:
    cells.layers["counts"] = cells.X.copy()
    cells.layers["log"] = sparse.csr_matrix(np.log1p(normalised(cells.X)))
    cells.X = sparse.csr_matrix(normalised(cells.X))
    return cells


def test_the_layer_counts_goes_before_x(layered: ad.AnnData):
    with open_cells(layered) as source:
        assert (source.counts, source.values, source.why) == ("layers/counts", "integer", "there is a layer 'counts'")


@pytest.mark.parametrize(
    ("layer", "name", "values"),
    [
        ("X", "X", "normalised"),
        ("log", "layers/log", "log1p"),
        ("counts", "layers/counts", "integer"),
        ("layers/log", "layers/log", "log1p"),
    ],
)
def test_what_is_asked_for_is_read(layer: str, name: str, values: str, layered: ad.AnnData):
    with open_cells(layered, layer=layer) as source:
        assert (source.counts, source.values, source.why) == (name, values, "it was asked for")


def test_an_unknown_layer_lists_the_layers_there_are(layered: ad.AnnData, tmp_path: Path):
    layered.write_h5ad(tmp_path / "cells.h5ad")
    for source in (layered, tmp_path / "cells.h5ad"):
        with pytest.raises(
            CellsError, match="has no layer 'spliced'; choose one of: --layer X, --layer counts, --layer log"
        ):
            open_cells(source, layer="spliced")
        with pytest.raises(CellsError, match="has no raw; choose one of"):
            open_cells(source, layer="raw")


def test_raw_is_used_unasked_only_where_x_is_scaled(cells: ad.AnnData, dense):
    cells.raw = cells.copy()
    with open_cells(cells) as source:
        assert source.counts == "X"
    expected = cells.X.toarray()
    cells.X = scaled(cells.X)
    with open_cells(cells) as source:
        assert (source.counts, source.values) == ("raw/X", "integer")
        assert source.why.startswith("X is scaled: 130 of 130 sampled cells have a negative value; raw is not")
        assert np.array_equal(dense(source), expected)


def test_scaled_values_are_refused_and_the_way_out_is_named(cells: ad.AnnData, counts: sparse.csr_matrix):
    cells.X = scaled(counts)
    with pytest.raises(CellsError, match="No other matrix of it would do"):
        open_cells(cells)
    cells.layers["logged"] = np.log1p(normalised(counts))
    cells.layers["scaled"] = cells.X.copy()
    with pytest.raises(CellsError, match=r"Choose another matrix of it: --layer logged\."):
        open_cells(cells)
    cells.raw = ad.AnnData(counts, obs=cells.obs, var=cells.var)
    with pytest.raises(CellsError, match=r"layers/scaled is scaled.*--layer logged, --layer raw\."):
        open_cells(cells, layer="scaled")
    with pytest.raises(CellsError, match="X is scaled"):
        open_cells(cells, layer="X")  # asked for by name, so nothing else is put in its place


def test_scaled_raw_does_not_stand_for_scaled_x(cells: ad.AnnData, counts: sparse.csr_matrix):
    cells.X = scaled(counts)
    cells.raw = cells.copy()
    with pytest.raises(CellsError, match="No other matrix of it would do"):
        open_cells(cells)


def test_a_layer_named_raw_is_found_where_there_is_no_raw(cells: ad.AnnData):
    cells.layers["raw"] = cells.X.copy()
    with open_cells(cells, layer="raw") as source:
        assert source.counts == "layers/raw"
    cells.raw = cells.copy()
    with open_cells(cells, layer="raw") as source:
        assert source.counts == "raw/X"
    with open_cells(cells, layer="layers/raw") as source:
        assert source.counts == "layers/raw"
