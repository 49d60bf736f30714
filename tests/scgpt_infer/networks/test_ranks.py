"""Ranks of attention scores: numpy's stable sorts say the same, and the original's tutorial up to its unstable one."""

import numpy as np
import pytest

from scgpt_infer.networks.ranks import RankFold, rank_sums
from scgpt_runtime.cells import Batch


def ranks(scores, axis):
    """Argsort of argsort, equal ones in order."""
    return np.argsort(np.argsort(scores, axis=axis, kind="stable"), axis=axis, kind="stable")


def oracle(scores):
    """Sums over heads of ranks along keys, then along queries: (heads, n, n) to (n, n)."""
    return ranks(ranks(scores, -1), -2).sum(axis=0)


@pytest.mark.parametrize(("heads", "n"), [(1, 1), (2, 2), (4, 31), (3, 33), (2, 100), (1, 300)])
def test_ranks_are_those_of_stable_sorts(heads, n):
    random = np.random.default_rng(n)
    scores = random.normal(size=(heads, n, n)).astype(np.float32)
    scores[:, :, : n // 2] = np.round(scores[:, :, : n // 2])  # many equal ones, zeros of both signs among them
    np.testing.assert_array_equal(rank_sums(scores, n), oracle(scores))


def test_zeros_of_both_signs_are_equal_and_all_magnitudes_are_in_order():
    row = np.array([0.0, -0.0, 1e-40, -1e-40, 3e38, -3e38, 1.0, -1.0, -0.0], np.float32)
    scores = np.broadcast_to(row, (1, 9, 9))
    np.testing.assert_array_equal(rank_sums(scores, 9), oracle(scores))


def test_padding_has_no_part():
    scores = np.random.default_rng(0).normal(size=(2, 48, 48)).astype(np.float32)
    alone = scores[:, :40, :40].copy()
    scores[:, 40:], scores[:, :, 40:] = np.nan, np.inf
    np.testing.assert_array_equal(rank_sums(scores, 40), rank_sums(alone, 40))


@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_have_no_ranks(strange):
    scores = np.zeros((2, 5, 5), np.float32)
    scores[1, 4, 2] = strange
    assert np.isnan(rank_sums(scores, 5)).all()


def test_each_cell_of_a_batch_has_its_own_ranks():
    scores = np.random.default_rng(1).normal(size=(3, 2, 16, 16)).astype(np.float32)
    batch = Batch(np.zeros((3, 16), np.uint16), np.zeros((3, 16), np.uint8), np.full(3, 12, np.int32), np.arange(3))
    found = RankFold(12)(batch, {"scores": scores})
    for cell in range(3):
        np.testing.assert_array_equal(found["ranks"][cell], oracle(scores[cell, :, :12, :12]))


def test_the_original_s_ranks_lie_where_its_unstable_sort_may_put_equal_ones(golden_files):
    """Among 41 genes 1 entry in 1,100 has no equal in any head; ours are exact there, and in the bounds elsewhere."""
    with np.load(golden_files / "attention_grn.npz") as found:
        raw, theirs = found["raw_scores"], found["ranked_headmean"]
    _, heads, n, _ = raw.shape
    along_keys = ranks(raw, -1)
    equal_or_less = np.stack([(along_keys <= along_keys[:, :, q : q + 1]).sum(axis=2) for q in range(n)], axis=2)
    less = np.stack([(along_keys < along_keys[:, :, q : q + 1]).sum(axis=2) for q in range(n)], axis=2)
    highest, lowest = (equal_or_less - 1).sum(axis=1), less.sum(axis=1)
    ours = np.stack([rank_sums(cell, n) for cell in raw])
    original = theirs * heads * n
    np.testing.assert_allclose(original, np.round(original), atol=1e-3)
    for entries in (ours, np.round(original)):
        assert ((lowest <= entries) & (entries <= highest)).all()
    alone = lowest == highest
    assert alone.any()
    np.testing.assert_array_equal(ours[alone], np.round(original[alone]))
    np.testing.assert_allclose(ours.sum(axis=1), original.sum(axis=1), rtol=1e-5)  # each column holds all ranks once
