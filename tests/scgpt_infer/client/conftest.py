from collections.abc import Iterator

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scgpt_infer.client import forms
from scgpt_infer.server.asking import Ask, Cells
from tests.scgpt_infer.client.stand import BAD, N_CELLS, Server, served
from tests.scgpt_infer.server.fake_desk import answer, demo_here


@pytest.fixture(scope="session")
def cells() -> ad.AnnData:
    """Cells that the demo model knows, one of them without a value, beside genes that it does not know."""
    rng = np.random.default_rng(0)
    known = [name for name in demo_here().vocabulary.tokens if not name.startswith("<")][:50]
    dense = rng.poisson(0.4, (N_CELLS, 60)).astype(np.float32)
    dense[:, 0] = 1
    dense[BAD] = 0
    obs = pd.DataFrame(index=[f"cell-{row}" for row in range(N_CELLS)])
    var = pd.DataFrame({"feature_name": [*known, *(f"peak-{n}" for n in range(10))]}, [f"x{n}" for n in range(60)])
    return ad.AnnData(sparse.csr_matrix(dense), obs=obs, var=var)


@pytest.fixture(scope="session")
def expected(cells) -> np.ndarray:
    csr = cells.X.astype(np.float32)
    token = demo_here().vocabulary.index
    tokens = np.array([token.get(name, -1) for name in cells.var["feature_name"]], np.int32)[csr.indices]
    asked = Ask("embed", Cells(csr.indptr.astype(np.int64), tokens, csr.data))
    return answer(demo_here(), asked).part.vectors


@pytest.fixture
def server() -> Iterator[Server]:
    with served() as found:
        yield found


@pytest.fixture(params=["arrow", "tensors"])
def form(request, monkeypatch) -> str:
    if request.param == "tensors":
        monkeypatch.setattr(forms, "find_spec", lambda name: None)
    return request.param
