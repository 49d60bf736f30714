"""The original's tokens where it leaves genes out: replayed with PyTorch's own generator."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from scgpt_runtime.kernels import bins_from_draws

GOLDEN = Path(__file__).parents[1] / "golden"
MAX_LENGTH, BATCH = 200, 8


def test_with_its_own_draws_and_permutations_the_originals_tokens_come_out() -> None:
    """data_collator.py: per cell bins of all kept values, then a permutation where the cell is too long."""
    with np.load(GOLDEN / "embed_small_sampled.npz") as file:
        arrays = dict(file)
    vocabulary = json.loads((GOLDEN / "small_checkpoint/vocab.json").read_text())
    columns = np.array([vocabulary.get(str(gene), -1) for gene in arrays["genes"]])
    numbers = np.random.RandomState(1)
    generator = torch.Generator().manual_seed(1)
    torch.empty((), dtype=torch.int64).random_(generator=generator)  # the loader's base seed
    n_cells = len(arrays["X"])
    for batch, (start, stop) in enumerate(pairwise([*range(0, n_cells, BATCH), n_cells])):
        rows = [np.flatnonzero((row != 0) & (columns >= 0)) for row in arrays["X"][start:stop]]
        target = min(MAX_LENGTH, max(len(row) for row in rows) + 1)
        for i, kept in enumerate(rows):
            values = arrays["X"][start + i][kept].astype(np.float32)
            bins = bins_from_draws(values, numbers.random_sample(len(kept)), np.linspace(0, 1, 50))
            if len(kept) + 1 > target:
                chosen = torch.randperm(len(kept), generator=generator).numpy()[: target - 1]
                kept, bins = kept[chosen], bins[chosen]
            ids, collated = arrays[f"gene_{batch}"][i], arrays[f"expr_{batch}"][i]
            np.testing.assert_array_equal(ids[1 : len(kept) + 1], columns[kept])
            np.testing.assert_array_equal(collated[1 : len(kept) + 1], bins)
            assert (ids[len(kept) + 1 :] == vocabulary["<pad>"]).all()
