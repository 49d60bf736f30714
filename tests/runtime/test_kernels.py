"""Bins and draws: the original's bins given its draws, and draws that are as even as its own."""

import ast
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from scgpt_runtime import kernels
from scgpt_runtime.cells import CellBlock, TokenBlock
from scgpt_runtime.kernels import bins_from_draws
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.tokenizer import tokenize

QUANTILES = np.linspace(0, 1, 50)


def original_bins(values: NDArray[np.float32], draws: NDArray[np.float64], n_bins: int = 51) -> NDArray[np.int64]:
    """Restate ``binning`` and ``_digitize`` of scGPT's preprocess.py, side "both"."""
    edges = np.quantile(values, np.linspace(0, 1, n_bins - 1))
    left = np.digitize(values, edges)
    right = np.digitize(values, edges, right=True)
    return np.ceil(draws * (right - left) + left).astype(np.int64)


def sets_of_values() -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    sizes = [1, 2, 3, 8, 49, 50, 51, 99, 344, 1000, 1199, 2500]
    tied = [rng.negative_binomial(1, 0.25, n) + 1.0 for n in sizes]
    free = [rng.random(n) + 0.01 for n in sizes]
    few = [rng.integers(1, 4, n) * 0.7 for n in sizes]
    large = [rng.negative_binomial(1, 0.001, n) + 1.0 for n in sizes]
    return [v.astype(np.float32) for v in [*tied, *free, *few, *large, *(np.log1p(t) for t in tied)]]


@pytest.mark.parametrize("values", sets_of_values(), ids=lambda v: f"{len(v)} values up to {v.max():.4g}")
@pytest.mark.parametrize("n_bins", [51, 11, 254])
def test_given_the_same_draws_bins_are_the_originals(values, n_bins) -> None:
    draws = np.random.default_rng(1).random(len(values))
    bins = bins_from_draws(values, draws, np.linspace(0, 1, n_bins - 1))
    np.testing.assert_array_equal(bins, original_bins(values, draws, n_bins))


@pytest.mark.parametrize("largest", [2047.0, 2048.0, 2049.0, 1e6])
def test_counting_and_sorting_give_the_same_bins(largest) -> None:
    """Small whole values are counted, others sorted; scaled by a half the same cell takes the other way."""
    rng = np.random.default_rng(2)
    values = np.append(rng.integers(1, 60, 700), largest).astype(np.float32)
    draws = rng.random(len(values))
    np.testing.assert_array_equal(
        bins_from_draws(values, draws, QUANTILES), bins_from_draws(values * np.float32(0.25), draws, QUANTILES)
    )


@pytest.mark.parametrize("distinct", [1, 2, kernels.FEW - 1, kernels.FEW, kernels.FEW + 1, 3 * kernels.FEW])
def test_values_looked_up_in_a_table_get_the_bins_of_sorted_ones(distinct) -> None:
    rng = np.random.default_rng(distinct)
    values = np.log1p(rng.permutation(np.arange(4 * distinct) % distinct) + 0.5).astype(np.float32)
    draws = rng.random(len(values))
    assert np.array_equal(bins_from_draws(values, draws, QUANTILES), original_bins(values, draws))


def test_extreme_draws_stay_inside_the_edges() -> None:
    values = np.full(2, 3, np.float32)
    assert bins_from_draws(values, np.array([0.0, 1 - 2.0**-53]), QUANTILES).tolist() == [50, 1]
    assert bins_from_draws(values[:1], np.array([0.5]), QUANTILES).tolist() == [25]


def test_smallest_float32_values_keep_their_order() -> None:
    values = np.array([1e-45, 3e-45, 1e-38, 1.0, 3e38], np.float32)
    bins = bins_from_draws(values, np.zeros(5), QUANTILES)
    assert (np.diff(bins.astype(int)) > 0).all()
    assert bins[-1] == 50


# ---- draws, over many cells ------------------------------------------------------------------------------------------

N_GENES = 60
SETTINGS = TokenizerSettings(cls_id=N_GENES, pad_id=N_GENES + 1)


@pytest.fixture(scope="module")
def equal_cells() -> TokenBlock:
    """34,220 cells of 3 genes each, all values equal: every bin is a draw from 1 to 50."""
    return tokenize(equal_block(), np.arange(N_GENES), SETTINGS, N_GENES + 2)


def equal_block() -> CellBlock:
    genes = np.array(list(combinations(range(N_GENES), 3)), np.int32)
    return CellBlock(np.arange(0, genes.size + 1, 3), genes.ravel(), np.ones(genes.size, np.float32), 0)


def chi_square(observed: NDArray[np.int64]) -> float:
    """Chi-square against evenness, in standard deviations from its mean."""
    even = observed.sum() / observed.size
    return float((((observed - even) ** 2 / even).sum() - observed.size + 1) / np.sqrt(2 * (observed.size - 1)))


def drawn(tokens: TokenBlock) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids and bins as (n_cells, 3), ``<cls>`` left out."""
    return (tokens.ids.reshape(-1, 4)[:, 1:].astype(np.int64), tokens.values.reshape(-1, 4)[:, 1:].astype(np.int64))


def test_tied_values_draw_all_bins_evenly(equal_cells) -> None:
    ids, bins = drawn(equal_cells)
    assert abs(chi_square(np.bincount(bins.ravel() - 1, minlength=50))) < 4
    assert abs(chi_square(np.bincount((ids * 50 + bins - 1).ravel(), minlength=N_GENES * 50))) < 4


def test_draws_of_one_cell_are_independent(equal_cells) -> None:
    _, bins = drawn(equal_cells)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert abs(chi_square(np.bincount((bins[:, i] - 1) * 50 + bins[:, j] - 1, minlength=2500))) < 4


def test_draws_of_two_seeds_are_independent(equal_cells) -> None:
    other = TokenizerSettings(cls_id=N_GENES, pad_id=N_GENES + 1, seed=1)
    one, two = drawn(equal_cells)[1], drawn(tokenize(equal_block(), np.arange(N_GENES), other, N_GENES + 2))[1]
    assert abs(chi_square(np.bincount(((one - 1) * 50 + two - 1).ravel(), minlength=2500))) < 4


def test_a_value_on_some_edges_draws_among_these_evenly() -> None:
    """Counts 1, 1, 1, 2 with 50 edges: 1 lies on those up to rank 2, and draws from the bins up to their number."""
    genes = np.array(list(combinations(range(40), 4)), np.int32)[::7]
    data = np.tile(np.array([1, 1, 1, 2], np.float32), len(genes))
    block = CellBlock(np.arange(0, genes.size + 1, 4), genes.ravel(), data, 0)
    tokens = tokenize(block, np.arange(40), SETTINGS, N_GENES + 2)
    bins = tokens.values.reshape(-1, 5)[:, 1:]
    on_edges = int((3 * QUANTILES <= 2).sum())
    assert (bins[:, 3] == 50).all()
    assert bins[:, :3].max() == on_edges
    assert abs(chi_square(np.bincount(bins[:, :3].ravel() - 1, minlength=on_edges))) < 4


def test_down_sampling_keeps_each_gene_equally_often_whatever_its_bin() -> None:
    """20,000 cells, 12 genes each, 4 kept: a gene's chance does not depend on its place, id or bin."""
    rng = np.random.default_rng(3)
    genes = np.sort(rng.permuted(np.tile(np.arange(N_GENES, dtype=np.int32), (20_000, 1)), axis=1)[:, :12], axis=1)
    block = CellBlock(np.arange(0, genes.size + 1, 12), genes.ravel(), np.ones(genes.size, np.float32), 0)
    whole = tokenize(block, np.arange(N_GENES), SETTINGS, N_GENES + 2)
    short = TokenizerSettings(cls_id=N_GENES, pad_id=N_GENES + 1, max_length=5)
    part = tokenize(block, np.arange(N_GENES), short, N_GENES + 2)
    kept = part.ids.reshape(-1, 5)[:, 1:].astype(np.int64)
    place = (kept[:, :, None] == genes[:, None, :]).argmax(axis=2)
    bins = whole.values.reshape(-1, 13)[:, 1:].astype(np.int64)
    kept_bins = np.take_along_axis(bins, place, axis=1)
    np.testing.assert_array_equal(kept_bins, part.values.reshape(-1, 5)[:, 1:])
    # Drawn without replacement these are a little more even than independent draws, never less.
    assert chi_square(np.bincount(place.ravel(), minlength=12)) < 4
    assert chi_square(np.bincount(kept.ravel(), minlength=N_GENES)) < 4
    share = np.bincount(kept_bins.ravel(), minlength=51)[1:] / np.bincount(bins.ravel(), minlength=51)[1:]
    assert np.abs(share - 4 / 12).max() < 5 * np.sqrt(4 / 12 * 8 / 12 / (bins.size / 50))


def test_every_constant_in_the_machine_code_stands_in_the_file_that_the_cache_watches() -> None:
    tree = ast.parse(Path(kernels.__file__).read_text())
    imported = [
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    frozen = [name for name in imported if isinstance(getattr(kernels, name), int | float | np.generic | np.ndarray)]
    assert "cached" in imported
    assert not frozen
