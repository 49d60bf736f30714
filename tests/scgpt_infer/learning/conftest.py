"""Labelled cells that the toy bundle can tell apart: each kind has genes of its own."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import toy_bundle

KINDS = ("a", "b", "c")
N_CELLS = 240


@pytest.fixture(scope="session")
def _labelled() -> ad.AnnData:
    rng = np.random.default_rng(3)
    kinds = np.array(KINDS)[np.arange(N_CELLS) % 3]
    dense = np.zeros((N_CELLS, toy_bundle.GENES), np.float32)
    for row, kind in enumerate(kinds):
        first = KINDS.index(kind) * 20
        dense[row, first : first + 20] = rng.integers(1, 9, 20) * (rng.random(20) < 0.8)
    obs = pd.DataFrame(
        {"kind": kinds, "donor": [f"d{row // 60}" for row in range(N_CELLS)], "assay": "10x"},
        index=[f"cell-{row}" for row in range(N_CELLS)],
    )
    return ad.AnnData(sparse.csr_matrix(dense), obs, pd.DataFrame(index=[f"G{i}" for i in range(toy_bundle.GENES)]))


@pytest.fixture
def labelled(_labelled) -> ad.AnnData:
    return _labelled.copy()


@pytest.fixture
def file(labelled, tmp_path) -> Path:
    folder = tmp_path / "reference"
    folder.mkdir()
    labelled.write_h5ad(folder / "reference.h5ad")
    return folder / "reference.h5ad"
