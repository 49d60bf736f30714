"""Models of RNA, proteins and peaks with random weights, as bundles, and cells of all three."""

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from once import made_once

GENES = [f"G{number}" for number in range(40)]
PROTEINS = [f"CD{number}" for number in range(9)]
PEAKS = [f"chr1:{number}-{number + 1}" for number in range(30)]
NAMES = ["ATAC", "Protein", "RNA", "<pad>", "<cls>", "<eoc>"]
N_CELLS = 30
ARGS = {
    "embsize": 8,
    "nheads": 2,
    "d_hid": 8,
    "nlayers": 2,
    "n_layers_cls": 3,
    "pad_token": "<pad>",
    "pad_value": -2,
    "mask_value": -1,
    "input_style": "binned",
    "input_emb_style": "continuous",
    "n_bins": 51,
    "max_seq_len": 200,
    "fine_tuned": True,
    "fast_transformer": False,
}


def bundle(folder: Path, peaks: list[str]) -> None:
    """A bundle of random weights; the tokens of the genes come last."""
    from scgpt_export.build import ExportOptions, export
    from scgpt_export.checkpoint import load
    from scgpt_export.multiomic import MultiOmicScGPT
    from scgpt_export.reference import ModelConfig, MultiOmicConfig

    tokens = [*peaks, *(f"p_{name}" for name in PROTEINS), *GENES, "<pad>", "<cls>", "<eoc>"]
    config = ModelConfig(
        n_tokens=len(tokens),
        dim=8,
        n_heads=2,
        d_hid=8,
        n_layers=2,
        pad_id=tokens.index("<pad>"),
        mvc=True,
        explicit_zero=True,
        batch_labels=True,
        n_batches=2,
        multiomic=MultiOmicConfig(len(NAMES), 3, 4),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(MultiOmicScGPT(config).state_dict(), folder / "best_model.pt")
    contents = {
        "args": ARGS,
        "vocab": {token: number for number, token in enumerate(tokens)},
        "modalities": {"modalities": NAMES, "prefixes": {"Protein": "p_", "ATAC": "chr"}},
        "batches": ["day1", "day2"],
        "genes": tokens[:-3],
    }
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    given = {name: folder / f"{name}.json" for name in ("modalities", "batches", "genes")}
    export(load(folder, **given), folder / "bundle", ExportOptions(("fp32",)))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle."""
    return made_once(tmp_path_factory, "multiomic", lambda folder: bundle(folder, PEAKS)) / "bundle"


@pytest.fixture(scope="session")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More tokens than 16 bits can number."""
    peaks = [f"chr1:{number}-{number + 1}" for number in range(66_000)]
    return made_once(tmp_path_factory, "wide-multiomic", lambda folder: bundle(folder, peaks)) / "bundle"


def counts(n_features: int, seed: int) -> sparse.csr_matrix:
    rng = np.random.default_rng(seed)
    return sparse.csr_matrix(rng.poisson(1.5, (N_CELLS, n_features)).astype(np.float32))


@pytest.fixture(scope="session")
def parts() -> dict[str, ad.AnnData]:
    """The modalities one by one; features in another order than the model's, some of them unknown."""
    cells = [f"cell-{row}" for row in range(N_CELLS)]
    names = {"rna": [*GENES[::-1], "NEW1", "NEW2"], "prot": PROTEINS, "atac": [PEAKS[-1], *PEAKS[:20]]}
    found = {}
    for seed, (name, features) in enumerate(names.items()):
        obs = pd.DataFrame({"day": ["day1", "day2"] * (N_CELLS // 2)}, index=cells) if name == "rna" else None
        found[name] = ad.AnnData(
            counts(len(features), seed), obs=pd.DataFrame(index=cells) if obs is None else obs,
            var=pd.DataFrame(index=features),
        )  # fmt: skip
    return found


@pytest.fixture
def cite(parts: dict[str, ad.AnnData]) -> ad.AnnData:
    """RNA, with proteins in obsm."""
    cells = parts["rna"].copy()
    cells.obsm["protein_counts"] = pd.DataFrame(parts["prot"].X.toarray(), index=cells.obs_names, columns=PROTEINS)
    return cells
