"""The training of a perturbation generator: what is held out stays out, and what is taught is what is meant."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

from scgpt_export.checkpoint import load
from scgpt_runtime.vocab import Vocabulary

SCRIPTS = Path(__file__).parents[2] / "scripts"
GENES = ("STAT1", "LYZ", "CD3D", "G1", "G2")
KNOCK_OUTS = ("A", "B", "LYZ", "CD3D", "OUT", "Z")


@pytest.fixture
def script(monkeypatch):
    """The script, found as when it runs."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import train_perturb

    yield train_perturb
    for name in [name for name in sys.modules if name.split(".")[0] in ("training", "train_perturb")]:
        del sys.modules[name]


@pytest.fixture
def cells(script):
    """Each knock-out doubles a gene of its own; replicate 3 and OUT do something else."""
    from training.cells import Cells

    random, rows, targets, replicates = np.random.default_rng(0), [], [], []
    for place, target in enumerate((script.CONTROL, *KNOCK_OUTS)):
        for replicate in ("rep_1", "rep_2", script.JUDGED):
            rate = np.full(5, 20.0)
            rate[place % 5] *= 2 if target != script.CONTROL else 1
            rows.append(random.poisson(rate if replicate != script.JUDGED else rate[::-1] * 3, (30, 5)))
            targets += [target] * 30
            replicates += [replicate] * 30
    counts = sparse.csr_matrix(np.concatenate(rows).astype(np.float32))
    obs = {script.TARGET: np.array(targets), script.REPLICATE: np.array(replicates)}
    return Cells("toy", counts, GENES, np.arange(len(targets)).astype(str), obs)


def test_every_fifth_knock_out_and_the_last_replicate_are_not_learnt_from(script, cells):
    assert script.held_out(cells.obs[script.TARGET]) == ("OUT",)
    screen = script.screen_of(cells)
    assert sorted(screen.effects) == ["A", "B", "CD3D", "LYZ", "Z"]
    assert len(screen.controls) == 60
    assert np.argmax(screen.effects["A"]) == 1
    changed = cells.counts.copy()
    judged = np.repeat(cells.obs[script.REPLICATE] == script.JUDGED, np.diff(changed.indptr))
    changed.data[judged] = 1
    again = script.screen_of(replace(cells, counts=changed))
    np.testing.assert_array_equal(again.effects["A"], screen.effects["A"])


def test_a_batch_asks_each_cell_for_itself_plus_the_change(script, cells):
    screen = script.screen_of(cells)
    tokens = Vocabulary((*GENES, "A", "B", "Z", "<pad>", "<cls>", "<eoc>"))
    sampler, lengths = script.Sampler(screen, tokens, seed=0), set()
    for _ in range(8):
        batch = sampler.draw()
        lengths.add(batch.ids.shape[1])
        assert batch.flags.sum(dim=1).max() == 1
        for ids, flags, values, target in zip(batch.ids, batch.flags, batch.values, batch.target, strict=True):
            name = tokens.tokens[ids[flags == 1].item()] if flags.any() else None
            effect = 0 if name is None else screen.effects[name]
            np.testing.assert_allclose(target.numpy(), values.numpy()[:5] + effect, atol=1e-6)
    assert lengths == {5, 6}  # with and without a token for a gene that is not measured


def test_a_new_model_answers_cells_nearly_with_themselves_and_its_folder_is_exported(script, tmp_path):
    from training import checkpoint

    tokens = Vocabulary((*GENES, "<pad>", "<cls>", "<eoc>"))
    model, told = script.new_model(tokens, seed=0)
    assert told.startswith("from demo_checkpoint: 6 of 8 tokens")
    cells, flags = torch.rand(3, 5) * 4, torch.zeros(3, 5, dtype=torch.long)
    batch = script.Batch(torch.arange(5).repeat(3, 1), cells, flags, cells)
    with torch.no_grad():
        assert script.losses_of(model, batch)["values"] < 0.1
    checkpoint.write(tmp_path / "checkpoint", model, tokens, {"pad_value": 0, "pert_pad_id": 0, "max_seq_len": 6})
    assert load(tmp_path / "checkpoint").config.generator is not None
