"""Cells to measure with."""

import numpy as np
import pytest

import toy_bundle
from scgpt_infer.bench.lengths import checked_lengths, load_tokens, own_cells, random_tokens, save_tokens
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.errors import OptionError
from scgpt_runtime.manifest import TokenizerSettings

SETTINGS = TokenizerSettings(cls_id=101, pad_id=100, max_length=1200)


def test_random_cells_look_like_tokenised_ones():
    tokens = random_tokens(7, 50, SETTINGS, 102, seed=3)
    assert tokens.n_cells == 7
    ids, values = tokens.ids.reshape(7, 50), tokens.values.reshape(7, 50)
    assert (ids[:, 0] == SETTINGS.cls_id).all()
    assert (values[:, 0] == SETTINGS.cls_code).all()
    assert not np.isin(ids[:, 1:], [SETTINGS.cls_id, SETTINGS.pad_id]).any()
    assert (np.diff(ids[:, 1:].astype(int)) > 0).all()
    assert values[:, 1:].min() >= 1
    assert values[:, 1:].max() < SETTINGS.n_bins
    assert (ids.dtype, values.dtype) == (np.uint16, np.uint8)


def test_the_seed_decides():
    one, same, other = (random_tokens(3, 20, SETTINGS, 102, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.ids, same.ids)
    assert not np.array_equal(one.ids, other.ids)


def test_default_lengths_end_at_the_longest_cell():
    assert checked_lengths(None, SETTINGS) == (64, 256, 600, 1200)
    assert checked_lengths(None, TokenizerSettings(1, 0, max_length=300)) == (64, 256, 300)
    assert checked_lengths((1200, 64, 64), SETTINGS) == (64, 1200)


@pytest.mark.parametrize("length", [1, 1201])
def test_a_length_that_no_cell_has_is_refused(length):
    with pytest.raises(OptionError, match=f"A length is {length}"):
        checked_lengths((64, length), SETTINGS)


def test_all_cells_are_counted_and_the_sample_has_their_lengths(toy_model, toy_h5ad):
    bundle = Bundle.open(toy_model)
    own = own_cells(bundle, toy_h5ad, 40, seed=0)
    assert own.facts.n_cells == 1100
    assert own.facts.n_bad == 1
    assert sum(own.facts.histogram) == 1099
    assert own.sample.n_cells == own.facts.sampled == 40
    lengths = np.diff(own.sample.offsets)
    assert lengths.min() >= 2
    assert lengths.max() <= toy_bundle.SETTINGS.max_length
    assert own.facts.sampled_mean == pytest.approx(own.facts.mean, rel=0.02)
    assert own.facts.quantiles["p5"] <= own.facts.quantiles["p50"] <= own.facts.quantiles["p95"]


def test_the_sample_depends_on_the_seed_alone(toy_model, toy_h5ad):
    bundle = Bundle.open(toy_model)
    one, same, other = (own_cells(bundle, toy_h5ad, 10, seed).sample for seed in (1, 1, 2))
    assert np.array_equal(one.ids, same.ids)
    assert not np.array_equal(one.ids, other.ids)


def test_tokens_survive_the_way_to_another_process(tmp_path):
    tokens = random_tokens(3, 20, SETTINGS, 102, 0)
    save_tokens(tokens, tmp_path / "tokens.npz")
    found = load_tokens(tmp_path / "tokens.npz")
    assert found.ids.dtype == tokens.ids.dtype
    for name in ("ids", "values", "offsets", "faults"):
        assert np.array_equal(getattr(found, name), getattr(tokens, name))
