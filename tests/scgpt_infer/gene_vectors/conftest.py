"""Cells that the original's small checkpoint knows the genes of: some bad, some in no group."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scgpt_infer.options import EmbedOptions
from scgpt_runtime.bundle import Bundle

N_CELLS, N_GENES = 150, 100
EMPTY, NAN = 5, 70

PLAIN = EmbedOptions(provider="cpu", precision="fp32")
"""What runs the same everywhere."""


@pytest.fixture(scope="session")
def bundle(tiny_bundle) -> Bundle:
    return Bundle.open(tiny_bundle)


@pytest.fixture(scope="session")
def genes(bundle) -> list[str]:
    return [name for name in bundle.vocabulary().tokens if not name.startswith("<")][7 : 7 + N_GENES]


@pytest.fixture(scope="session")
def cells(genes) -> ad.AnnData:
    random = np.random.default_rng(0)
    dense = random.poisson(random.gamma(0.5, 2.0, N_GENES + 3), (N_CELLS, N_GENES + 3)).astype(np.float32)
    dense[EMPTY] = 0
    dense[NAN, 3] = np.nan
    dense[:, 9] = 0
    kinds = np.array(["b", "a", "", "b", "a"])[np.arange(N_CELLS) % 5]
    obs = pd.DataFrame({"kind": kinds}, [f"cell-{row}" for row in range(N_CELLS)])
    var = pd.DataFrame(index=[*genes, "unknown-1", "unknown-2", "unknown-3"])
    return ad.AnnData(sparse.csr_matrix(dense), obs=obs, var=var)


@pytest.fixture
def cells_file(cells, tmp_path) -> Path:
    (tmp_path / "cells").mkdir()
    cells.write_h5ad(tmp_path / "cells" / "cells.h5ad")
    return tmp_path / "cells" / "cells.h5ad"
