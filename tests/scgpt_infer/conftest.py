"""A toy bundle and cells that it knows, in memory and as a file; a cache folder of the test's own."""

import signal
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import toy_bundle
from scgpt_infer import interrupts

N_CELLS = 1100  # more than one row range
EMPTY_CELL = 5


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patching:  # of its own: a test that undoes its patches keeps this one
        patching.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "scgpt-infer"


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory) -> Path:
    return toy_bundle.write(tmp_path_factory.mktemp("model") / "toy")


@pytest.fixture(scope="session")
def _toy_adata() -> ad.AnnData:
    rng = np.random.default_rng(0)
    dense = rng.poisson(0.5, (N_CELLS, 70)).astype(np.float32)
    dense[EMPTY_CELL] = 0
    obs = pd.DataFrame({"kind": pd.Categorical(["a", "b"] * (N_CELLS // 2))}, [f"cell-{i}" for i in range(N_CELLS)])
    adata = ad.AnnData(sparse.csr_matrix(dense), obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(70)]))
    adata.raw = adata.copy()
    adata.layers["dense"] = dense
    adata.layers["columns"] = sparse.csc_matrix(dense)
    adata.obsm["X_pca"] = rng.normal(size=(N_CELLS, 3))
    adata.obsm["frame"] = pd.DataFrame({"x": np.arange(N_CELLS)}, index=adata.obs_names)
    adata.varm["loadings"] = rng.normal(size=(70, 3))
    adata.obsp["graph"] = sparse.random(N_CELLS, N_CELLS, 0.001, "csr", random_state=0)
    adata.uns["note"] = {"x": 1, "y": np.arange(3)}
    return adata


@pytest.fixture
def toy_adata(_toy_adata) -> ad.AnnData:
    return _toy_adata.copy()


@pytest.fixture
def toy_h5ad(toy_adata, tmp_path) -> Path:
    folder = tmp_path / "cells"
    folder.mkdir()
    toy_adata.write_h5ad(folder / "cells.h5ad")
    return folder / "cells.h5ad"


@pytest.fixture
def caught():
    """Catch signals as the command line does, and put the test runner's handlers back."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    interrupts.catch()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    interrupts._asked.clear()
    interrupts._stop.clear()
