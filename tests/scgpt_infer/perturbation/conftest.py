"""A toy generator, and a screen that it tells rightly: counts of eight genes under known perturbations."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import toy_generator
from scgpt_infer.options import EmbedOptions

GENES = ("C", "A", "X1", "B", "F", "E", "D", "X2")  # X1 and X2 are unknown to the model; G and H are not measured
CONDITIONS = ("ctrl", "A", "B", "A+B", "ctrl+C", "X1", "NOPE")
N_CELLS, EMPTY, NAN = 140, 7, 21

PLAIN = EmbedOptions(provider="cpu", precision="fp32", min_match=0)
"""What runs the same everywhere."""


@pytest.fixture(scope="session")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_generator.write(tmp_path_factory.mktemp("generator") / "toy")


@pytest.fixture(scope="session")
def zero_generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that tells P(value > 0), which is a half."""
    return toy_generator.write(tmp_path_factory.mktemp("generator") / "zero", nonzero=True)


@pytest.fixture(scope="session")
def screen() -> ad.AnnData:
    """Counts; the first condition's cells are the controls, of which two are bad."""
    random = np.random.default_rng(0)
    counts = random.poisson(random.gamma(1.0, 4.0, len(GENES)), (N_CELLS, len(GENES))).astype(np.float32)
    counts[EMPTY] = 0
    counts[NAN, 3] = np.nan
    kinds = np.array(CONDITIONS)[np.arange(N_CELLS) % len(CONDITIONS)]
    obs = pd.DataFrame({"condition": kinds}, [f"cell-{row}" for row in range(N_CELLS)])
    return ad.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=list(GENES)))


@pytest.fixture
def screen_file(screen: ad.AnnData, tmp_path: Path) -> Path:
    (tmp_path / "cells").mkdir()
    screen.write_h5ad(tmp_path / "cells" / "screen.h5ad")
    return tmp_path / "cells" / "screen.h5ad"


@pytest.fixture(scope="session")
def logged(screen: ad.AnnData) -> pd.DataFrame:
    """The good control cells as they must be told to the model."""
    controls = screen[(screen.obs["condition"] == "ctrl").to_numpy()].to_df()
    good = controls[np.isfinite(controls).all(axis=1) & (controls.sum(axis=1) > 0)]
    return np.log1p(good.div(good.sum(axis=1), axis=0) * 1e4)
