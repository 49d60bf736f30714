"""An exported generator of the original's golden weights: predictions are the reference's, in batches of any size."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

from scgpt_export.checkpoint import load
from scgpt_infer.options import EmbedOptions
from scgpt_infer.perturbation import PerturbOptions, perturb

N_CELLS, N_GENES = 5, 40


@pytest.fixture(scope="module")
def cells() -> ad.AnnData:
    """Counts of genes in no order, the last of them silent everywhere."""
    random = np.random.default_rng(3)
    counts = random.poisson(2.0, (N_CELLS, N_GENES)).astype(np.float32)
    counts[:, -1] = 0
    return ad.AnnData(counts, var=pd.DataFrame(index=[f"g{number}" for number in random.permutation(200)[:N_GENES]]))


def asked(exported_generator, cells, batch_tokens: int) -> np.ndarray:
    options = EmbedOptions(provider="cpu", precision="fp32", batch_tokens=batch_tokens)
    how = PerturbOptions((cells.var_names[0], f"{cells.var_names[3]}+{cells.var_names[-1]}"))
    return perturb(cells, model=exported_generator / "bundle", how=how, options=options).X


def test_means_are_those_of_the_reference(exported_generator, cells):
    model = load(exported_generator / "checkpoint").generator()
    counts = cells.X
    values = torch.from_numpy(np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4))
    ids = torch.tensor([[int(name[1:]) for name in cells.var_names]] * N_CELLS)
    expected = []
    for perturbed in ([0], [3, N_GENES - 1]):
        flags = torch.zeros_like(ids)
        flags[:, perturbed] = 1
        with torch.no_grad():
            told = model(ids, values, flags, torch.zeros_like(ids, dtype=torch.bool))["mlm_output"]
        expected.append(told.mean(dim=0).numpy())
    np.testing.assert_allclose(asked(exported_generator, cells, 100), np.stack(expected), atol=1e-5)


def test_batches_move_an_answer_by_rounding_alone(exported_generator, cells):
    alone, together = asked(exported_generator, cells, 1), asked(exported_generator, cells, 10_000)
    np.testing.assert_allclose(alone, together, atol=1e-5)
    np.testing.assert_array_equal(together, asked(exported_generator, cells, 10_000))
