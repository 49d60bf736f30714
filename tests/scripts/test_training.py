"""The base of the training scripts: cells, tokens, masks, weights to start from, folders that can be exported."""

import math
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from torch import nn

from scgpt_export.checkpoint import load
from scgpt_export.reference import ModelConfig, ScGPT
from scgpt_runtime.vocab import Vocabulary

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """Scripts find one another as when one of them runs."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "training"]:
        del sys.modules[name]


TOKENS = Vocabulary(("CD3D", "LYZ", "MS4A1", "NOT-IN-THE-DEMO", "<pad>", "<cls>", "<eoc>"))
CONFIG = ModelConfig(len(TOKENS), dim=64, n_heads=4, d_hid=128, n_layers=4, pad_id=4, mvc=True, explicit_zero=True)
COLUMNS = np.array([1, -1, 0, 2])
COUNTS = sparse.csr_matrix(np.array([[3, 1, 0, 2], [0, 0, 0, 0], [1, 0, 4, 0]], np.float32))


def rules(**more):
    from training.tokens import settings

    return settings(TOKENS, 10, **more)


def test_cells_are_padded_and_bad_ones_left_out():
    from training.tokens import padded

    found = padded(COUNTS, COLUMNS, rules(), len(TOKENS))
    assert found.rows.tolist() == [0, 2]
    assert found.ids[0].tolist() == [TOKENS.index["<cls>"], 1, 2]
    assert found.lengths.tolist() == [3, 3]
    zeros = padded(COUNTS, COLUMNS, rules(include_zeros=True), len(TOKENS))
    assert zeros.ids[1].tolist() == [TOKENS.index["<cls>"], 0, 1, 2]
    assert zeros.values[1, 3] == 0


def test_neither_the_cell_token_nor_padding_is_masked():
    from training.tokens import join, masked, padded

    short = padded(COUNTS[:1], COLUMNS[[0, 1, 1, 1]], rules(), len(TOKENS))
    batch = join([short, padded(COUNTS, COLUMNS, rules(), len(TOKENS))], TOKENS.index["<pad>"], rules().pad_code)
    found = masked(batch, (1.0,), rules(), np.random.default_rng(0))
    assert not found.hidden[:, 0].any()
    assert not (found.hidden & found.padding).any()
    assert found.hidden.sum() == (batch.lengths - 1).sum()
    assert (found.codes[found.hidden] == rules().mask_code).all()
    assert (found.target[found.hidden] < rules().n_bins).all()


def test_a_model_starts_from_what_fits_by_name():
    from training.checkpoint import DEMO, demo_genes, start

    model = ScGPT(CONFIG)
    before = model.encoder.embedding.weight[3].clone()
    told = start(model, TOKENS)
    theirs = torch.load(DEMO / "best_model.pt", weights_only=True)
    place = demo_genes().index("LYZ")
    assert torch.equal(model.encoder.embedding.weight[1], theirs["encoder.embedding.weight"][place])
    assert torch.equal(model.encoder.embedding.weight[3], before)
    assert torch.equal(model.decoder.fc[0].weight, theirs["decoder.fc.0.weight"])
    assert "6 of 7 tokens" in told
    assert "8 tensors start at random" in told


def test_what_is_written_can_be_exported(tmp_path):
    from training.checkpoint import write

    model = ScGPT(CONFIG)
    write(tmp_path, model, TOKENS, {"fine_tuned": True, "include_zero_gene": True, "max_seq_len": 5}, labels=["a", "b"])
    found = load(tmp_path)
    assert found.include_zeros
    assert found.config.explicit_zero
    assert torch.equal(found.state["encoder.embedding.weight"], model.encoder.embedding.weight)
    assert (tmp_path / "labels.json").exists()


def test_the_loop_learns_and_keeps_the_mean_that_judges_best():
    from training.loop import Course, train

    torch.manual_seed(0)
    random = np.random.default_rng(0)
    model, said = nn.Linear(3, 1), []
    aim = torch.tensor([[1.0, -2.0, 0.5]])

    def draw() -> torch.Tensor:
        return torch.tensor(random.normal(size=(32, 3)), dtype=torch.float32)

    def losses(learner: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"error": ((learner(x) - x @ aim.T) ** 2).mean()}

    course = Course(steps=400, rate=0.05, warm_up=20, average=0.9, judge_every=100)
    best = train(model, draw, losses, course, said.append, lambda found: -float((found.weight - aim).abs().max()))
    assert (best.weight - aim).abs().max() < 0.05
    assert len(said) == 4
    assert not best.training


def test_the_rate_rises_then_falls_by_steps_or_by_time():
    from training.loop import Course, schedule

    course = Course(steps=100, warm_up=10, seconds=50)
    assert schedule(5, course) == 0.5
    assert schedule(10, course) == 1.0
    assert schedule(100, course) == pytest.approx(0.02)
    assert schedule(20, course, spent=50) == pytest.approx(0.02)
    assert math.isclose(schedule(55, course), 0.51)


def test_variable_genes_vary_more_than_their_mean_makes_them():
    from training.cells import Cells, variable_genes

    random = np.random.default_rng(0)
    means = np.linspace(0.5, 8, 400)
    dense = random.poisson(means, (200, 400)).astype(np.float32)
    dense[:100, 5] = random.poisson(12, 100)
    cells = Cells("c", sparse.csr_matrix(dense), tuple(f"g{i}" for i in range(400)), np.arange(200).astype(str))
    assert "g5" in variable_genes(cells, 3)
    assert len(variable_genes(cells, 3, among=["g1", "g2"])) == 2


def test_copies_are_found():
    from training.cells import copies

    random = np.random.default_rng(0)
    counts = sparse.csr_matrix(random.poisson(1.0, (5, 400)).astype(np.float32))
    genes = [f"g{i}" for i in range(400)]
    assert copies(counts, genes, counts[[3]], genes).tolist() == [False, False, False, True, False]
    assert not copies(counts, genes, counts, [f"other{i}" for i in range(400)]).any()


def test_a_file_is_read_with_its_columns(tmp_path):
    from training.cells import read

    obs = pd.DataFrame({"batch": ["a", "b", "a"]}, index=["c0", "c1", "c2"])
    ad.AnnData(COUNTS, obs=obs, var=pd.DataFrame(index=list("wxyz"))).write_h5ad(tmp_path / "x.h5ad")
    cells = read(tmp_path / "x.h5ad", ["batch"])
    assert cells.take(cells.obs["batch"] == "a").cells.tolist() == ["c0", "c2"]
    assert cells.keep(["z", "w"]).genes == ("w", "z")
