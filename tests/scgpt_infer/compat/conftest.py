"""Cells that the demo model knows, on one provider that needs no measuring."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scgpt_infer import models

EMPTY = 3


@pytest.fixture
def on_cpu(monkeypatch):
    """Whatever device is named, ONNX Runtime's processor provider computes, and is not measured first."""
    monkeypatch.setattr(models, "lasting_cache", lambda cache_dir=None: None)
    for module in ("cell_emb", "model"):
        monkeypatch.setattr(f"scgpt_infer.compat.{module}.place", lambda device: ("cpu", "auto"))


@pytest.fixture(scope="session")
def vocabulary():
    return models.resolve("demo").vocabulary()


@pytest.fixture
def adata(vocabulary) -> ad.AnnData:
    """Twelve cells of 90 genes, of which 80 are known; their lengths differ."""
    random = np.random.default_rng(4)
    counts = random.poisson(np.linspace(0.2, 3, 12)[:, None], (12, 90)).astype(np.float32)
    genes = [name for name in vocabulary.tokens if not name.startswith("<")][:2400:30]
    var = pd.DataFrame(index=[*genes, *(f"nothing-{i}" for i in range(10))])
    var["symbol"] = var.index.to_numpy()
    obs = pd.DataFrame({"batch": ["a", "b"] * 6, "depth": counts.sum(axis=1)}, [f"cell-{i}" for i in range(12)])
    return ad.AnnData(sparse.csr_matrix(counts), obs=obs, var=var)


@pytest.fixture
def with_empty(adata) -> ad.AnnData:
    """The same cells, one of them without counts."""
    dense = adata.X.toarray()
    dense[EMPTY] = 0
    return ad.AnnData(sparse.csr_matrix(dense), obs=adata.obs, var=adata.var)
