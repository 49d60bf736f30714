"""A model without zeros and one with, and cells of which some are bad and some express little."""

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from once import made_once
from scgpt_export.build import ExportOptions, export
from scgpt_export.checkpoint import load
from scgpt_export.reference import ModelConfig, ScGPT
from scgpt_infer.options import EmbedOptions
from scgpt_runtime.bundle import Bundle

N_CELLS, N_GENES = 40, 60
EMPTY, NAN, POOR, STRAY = 5, 7, 11, 13
WANTED = (12, 3, 40)
"""Places of the genes that tests ask for; the cell POOR expresses these alone."""

DAYS = ("day1", "day2", "day3")

PLAIN = EmbedOptions(provider="cpu", precision="fp32")
"""What runs the same everywhere."""


@pytest.fixture(scope="session")
def genes(tiny_bundle) -> list[str]:
    names = Bundle.open(tiny_bundle).vocabulary().tokens
    return [name for name in names if not name.startswith("<")][:N_GENES]


def write_model(folder: Path, genes: list[str], **config) -> Path:
    """A random model that takes genes without a value and tells zero from non-zero."""
    tokens = [*genes, "<pad>", "<cls>", "<eoc>"]
    torch.manual_seed(0)
    sizes = {"dim": 32, "n_heads": 4, "d_hid": 32, "n_layers": 2}
    model = ScGPT(ModelConfig(len(tokens), **sizes, pad_id=len(genes), mvc=True, explicit_zero=True, **config))
    for name, statistics in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            statistics.uniform_(0.5, 1.5)
    args = {
        "embsize": 32,
        "nheads": 4,
        "d_hid": 32,
        "nlayers": 2,
        "n_layers_cls": 3,
        "max_seq_len": N_GENES + 1,
        "pad_token": "<pad>",
        "pad_value": -2,
        "mask_value": -1,
        "fine_tuned": True,
        "include_zero_gene": True,
    }
    (folder / "args.json").write_text(json.dumps(args))
    (folder / "vocab.json").write_text(json.dumps({name: number for number, name in enumerate(tokens)}))
    (folder / "batches.json").write_text(json.dumps(DAYS))
    torch.save(model.state_dict(), folder / "best_model.pt")
    return folder


@pytest.fixture(scope="session")
def zeros_checkpoint(genes, tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("zeros"), genes)


@pytest.fixture(scope="session")
def zeros_bundle(zeros_checkpoint, tmp_path_factory) -> Path:
    def make(folder: Path) -> None:
        export(load(zeros_checkpoint), folder / "zeros", ExportOptions(("fp32",)))

    return made_once(tmp_path_factory, "zeros", make) / "zeros"


@pytest.fixture(scope="session")
def days_checkpoint(genes, tmp_path_factory) -> Path:
    """The same with statistics and vectors of batches, as scGPT's tutorial on integration trains it."""
    return write_model(tmp_path_factory.mktemp("days"), genes, norm="dsbn", batch_labels=True, n_batches=len(DAYS))


@pytest.fixture(scope="session")
def days_bundle(days_checkpoint, tmp_path_factory) -> Path:
    def make(folder: Path) -> None:
        checkpoint = load(days_checkpoint, batches=days_checkpoint / "batches.json")
        export(checkpoint, folder / "days", ExportOptions(("fp32",)))

    return made_once(tmp_path_factory, "days", make) / "days"


@pytest.fixture(scope="session")
def _cells(genes) -> ad.AnnData:
    random = np.random.default_rng(0)
    dense = random.poisson(random.gamma(0.6, 2.0, N_GENES + 2), (N_CELLS, N_GENES + 2)).astype(np.float32)
    dense[EMPTY] = 0
    dense[NAN, 1] = np.nan
    dense[POOR] = 0
    dense[POOR, list(WANTED)] = (3, 1, 2)
    days = np.array(DAYS, object)[np.arange(N_CELLS) % 3]
    days[STRAY] = None
    obs = pd.DataFrame({"day": days}, [f"cell-{row}" for row in range(N_CELLS)])
    return ad.AnnData(sparse.csr_matrix(dense), obs=obs, var=pd.DataFrame(index=[*genes, "unknown-1", "unknown-2"]))


@pytest.fixture
def cells(_cells) -> ad.AnnData:
    return _cells.copy()


@pytest.fixture
def cells_file(cells, tmp_path) -> Path:
    (tmp_path / "cells").mkdir()
    cells.write_h5ad(tmp_path / "cells" / "cells.h5ad")
    return tmp_path / "cells" / "cells.h5ad"


@pytest.fixture(scope="session")
def wanted(genes) -> list[str]:
    return [genes[place] for place in WANTED]
