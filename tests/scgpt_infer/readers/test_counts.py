from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from scgpt_infer.readers import open_cells
from scgpt_runtime.errors import CellsError


def normalised(counts: sparse.csr_matrix, target: float = 1e4) -> np.ndarray:
    dense = counts.toarray().astype(np.float64)
    return dense / np.maximum(dense.sum(axis=1, keepdims=True), 1) * target


def scaled(counts: sparse.csr_matrix) -> np.ndarray:
    logged = np.log1p(normalised(counts))
    return ((logged - logged.mean(axis=0)) / (logged.std(axis=0) + 1e-9)).astype(np.float32)


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
