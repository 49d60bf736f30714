"""Networks from the attention of a model that normalises by batch: each cell has the statistics of its own."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scgpt_infer.integration import IntegrateOptions
from scgpt_infer.networks.attention import AttentionOptions, from_attention
from scgpt_infer.options import EmbedOptions
from scgpt_runtime.errors import CellsError, OptionError

PLAIN = EmbedOptions(provider="cpu", precision="fp32", instances=1, threads=1)
GENES = tuple(f"g{i}" for i in range(12))


@pytest.fixture(scope="module")
def bundle(exported_batches):
    return exported_batches / "bundle"


@pytest.fixture(scope="module")
def cells():
    counts = np.random.default_rng(0).poisson(1.0, (9, 30)).astype(np.float32)
    obs = pd.DataFrame({"day": [*"012012012"], "one": "0", "gap": [*"01201201", ""]}, [f"c{row}" for row in range(9)])
    return ad.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(30)]))


def ask(cells, bundle, **batches):
    how = AttentionOptions(GENES[:2], only=GENES, batches=IntegrateOptions(**batches))
    return from_attention(cells, bundle, how, PLAIN)


def test_each_cell_has_the_statistics_of_its_batch(cells, bundle):
    whole = ask(cells, bundle, batch="day").scores.sums
    parts = []
    for day in "012":
        of_day = cells[cells.obs["day"] == day].copy()
        parts.append(ask(of_day, bundle, batch="day").scores.sums)
    np.testing.assert_array_equal(whole, sum(parts))
    assert (ask(cells, bundle, batch="one").scores.sums != whole).any()


def test_a_batch_that_is_missing_or_unknown_is_told(cells, bundle):
    with pytest.raises(OptionError, match=r"normalises by batch.*--batch.*obs has day, one, gap.*knows 0, 1, 2"):
        ask(cells, bundle)
    strange = cells.copy()
    strange.obs["day"] = "9"
    with pytest.raises(CellsError, match=r"0, 1, 2"):
        ask(strange, bundle, batch="day")
    assert ask(strange, bundle, batch="day", batch_fallback="1").network.record["n_by_fallback"] == 9


def test_a_cell_without_a_batch_is_left_out_and_listed(cells, bundle):
    found = ask(cells, bundle, batch="gap").scores
    assert [cell.name for cell in found.bad] == ["c8"]
    assert found.divisors.tolist() == [8]
