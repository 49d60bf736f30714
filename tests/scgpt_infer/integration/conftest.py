"""A toy model with batch labels, and cells of its batches."""

from pathlib import Path

import anndata as ad
import numpy as np
import pytest

import toy_bundle

N_CELLS = 1100  # more than one row range


@pytest.fixture(scope="session")
def labelled_model(tmp_path_factory) -> Path:
    return toy_bundle.write(tmp_path_factory.mktemp("labelled") / "toy", labelled=True)


@pytest.fixture
def cells(toy_adata) -> ad.AnnData:
    """Cells of three days, one of them of no day."""
    toy_adata.obs["day"] = np.random.default_rng(1).choice(toy_bundle.BATCHES, toy_adata.n_obs).astype(object)
    toy_adata.obs.loc[toy_adata.obs_names[7], "day"] = None
    return toy_adata


@pytest.fixture
def file(cells, tmp_path) -> Path:
    cells.write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"
