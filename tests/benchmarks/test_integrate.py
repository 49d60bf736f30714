"""The benchmark of integration: what is held out, how a small model learns statistics of batches, the table."""

import numpy as np
import torch

from benchmarks.integrate import SHOWN, table  # it makes the scripts importable

from train_integrate import Reversed, TokenNorm, held_out  # isort: skip


def test_a_third_of_each_batch_is_held_out_the_same_each_time():
    batches = np.array(["a"] * 30 + ["b"] * 9)
    out = held_out(batches)
    assert (out[:30].sum(), out[30:].sum()) == (10, 3)
    np.testing.assert_array_equal(out, held_out(batches))


def test_statistics_are_of_each_batchs_own_tokens_and_padding_has_no_part():
    torch.manual_seed(0)
    norm, x = TokenNorm(4, 2), torch.randn(3, 5, 4)
    norm.padding = torch.zeros(3, 5, dtype=torch.bool)
    norm.padding[:, 3:] = True
    x[norm.padding] = 1e3
    normed = norm.train()(x, torch.tensor([0, 1, 0]))
    first = normed[[0, 2], :3].reshape(-1, 4)
    assert torch.allclose(first.mean(0), torch.zeros(4), atol=1e-5)
    assert torch.allclose(first.var(0, unbiased=False), torch.ones(4), atol=1e-2)
    assert normed[norm.padding].abs().max() == 0
    assert norm.bns[1].running_mean.abs().max() < 1


def test_the_gradient_is_turned_around():
    x = torch.ones(2, requires_grad=True)
    Reversed.apply(x).sum().backward()
    assert x.grad.tolist() == [-1, -1]


def test_the_table_has_a_row_a_method():
    one = {"n_cells": 900, "n_batches": 2, "n_labels": 3, "methods": {"PCA": dict.fromkeys(SHOWN, 0.5)}}
    assert f"| PCA |{' 0.500 |' * len(SHOWN)}" in table({"pbmc": one})
