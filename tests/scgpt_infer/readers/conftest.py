"""Cells as users have them: integer counts, sparse, with names; and ways to compare what is read."""

from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scgpt_infer.spans import grid

N_CELLS, N_GENES = 130, 40


def _counts(n_cells: int = N_CELLS, n_genes: int = N_GENES, seed: int = 0) -> sparse.csr_matrix:
    rng = np.random.default_rng(seed)
    depth = rng.gamma(4.0, 0.1, size=(n_cells, 1))
    dense = rng.poisson(depth * rng.gamma(0.5, 2.0, size=(1, n_genes))).astype(np.float32)
    dense[3] = 0  # a cell without counts
    return sparse.csr_matrix(dense)


def _anndata(matrix: object) -> ad.AnnData:
    n_cells, n_genes = matrix.shape
    obs = pd.DataFrame(
        {"cell_type": pd.Categorical(["T", "B"] * (n_cells // 2))}, [f"cell-{i}" for i in range(n_cells)]
    )
    var = pd.DataFrame(
        {"feature_name": [f"GENE{i}" for i in range(n_genes)]}, [f"ENSG{i:011d}" for i in range(n_genes)]
    )
    return ad.AnnData(matrix, obs=obs, var=var)


def _dense(source: object, range_rows: int = 48) -> np.ndarray:
    """All rows of a source as one array, read in blocks that do not divide the cells."""
    full = np.zeros((source.n_cells, source.n_genes), np.float32)
    for block in source.blocks(grid(source.n_cells, range_rows)):
        assert block.indptr.dtype == np.int64
        assert block.indices.dtype == np.int32
        assert block.data.dtype == np.float32
        rows = np.repeat(np.arange(block.n_cells), np.diff(block.indptr)) + block.first_row
        np.add.at(full, (rows, block.indices), block.data)
    return full


def _same(ours: object, theirs: object) -> bool:
    """Whether two blocks are equal to the bit."""
    return ours.first_row == theirs.first_row and all(
        getattr(ours, name).dtype == getattr(theirs, name).dtype
        and getattr(ours, name).tobytes() == getattr(theirs, name).tobytes()
        for name in ("indptr", "indices", "data")
    )


@pytest.fixture
def counts() -> sparse.csr_matrix:
    return _counts()


@pytest.fixture
def cells(counts: sparse.csr_matrix) -> ad.AnnData:
    return _anndata(counts)


@pytest.fixture
def make_cells() -> Callable[[object], ad.AnnData]:
    return _anndata


@pytest.fixture
def dense() -> Callable[..., np.ndarray]:
    return _dense


@pytest.fixture
def same() -> Callable[[object, object], bool]:
    return _same
