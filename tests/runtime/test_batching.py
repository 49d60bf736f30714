from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import toy_bundle as toy
from scgpt_runtime.batching import BatchPlan, batches

lengths_of_cells = st.lists(st.integers(0, 40), max_size=60)


@given(lengths_of_cells, st.integers(1, 200))
def test_every_cell_with_tokens_is_in_one_batch_with_its_own_tokens(lengths, budget):
    tokens = toy.tokens_of(lengths)
    seen = []
    for batch in batches(tokens, toy.SETTINGS, BatchPlan("padded", budget)):
        for row, cell in enumerate(batch.cells):
            n = batch.lengths[row]
            start, stop = tokens.offsets[cell], tokens.offsets[cell + 1]
            np.testing.assert_array_equal(batch.ids[row, :n], tokens.ids[start:stop])
            np.testing.assert_array_equal(batch.values[row, :n], tokens.values[start:stop])
            assert (batch.ids[row, n:] == toy.SETTINGS.pad_id).all()
            assert (batch.values[row, n:] == toy.SETTINGS.pad_code).all()
            seen.append(int(cell))
    assert sorted(seen) == [cell for cell, length in enumerate(lengths) if length > 0]


@given(lengths_of_cells, st.integers(1, 200))
def test_a_batch_keeps_to_the_budget_unless_it_is_one_cell(lengths, budget):
    for batch in batches(toy.tokens_of(lengths), toy.SETTINGS, BatchPlan("padded", budget)):
        assert batch.ids.size <= budget or len(batch.cells) == 1
        assert batch.ids.shape[1] == batch.lengths.max()


@given(lengths_of_cells, st.integers(1, 200))
def test_composition_depends_on_lengths_and_budget_alone(lengths, budget):
    one = batches(toy.tokens_of(lengths, seed=1), toy.SETTINGS, BatchPlan("padded", budget))
    two = batches(toy.tokens_of(lengths, seed=2), replace(toy.SETTINGS, seed=99), BatchPlan("padded", budget))
    assert [batch.cells.tolist() for batch in one] == [batch.cells.tolist() for batch in two]


def test_like_lengths_go_together():
    random = np.random.default_rng(0)
    lengths = random.integers(100, 1200, 300)
    made = batches(toy.tokens_of(lengths), toy.SETTINGS, BatchPlan("padded", 4800))
    in_row_order = [lengths[start : start + 4].max() * 4 for start in range(0, 300, 4)]
    wasted = sum(batch.ids.size for batch in made) - lengths.sum()
    assert wasted < 0.1 * (sum(in_row_order) - lengths.sum())


def test_raw_values_are_padded_with_the_pad_value():
    tokens = toy.tokens_of([3, 5])
    tokens = replace(tokens, values=tokens.values.astype(np.float32))
    (batch,) = batches(tokens, replace(toy.SETTINGS, value_style="raw"), BatchPlan("padded", 100))
    assert batch.values.dtype == np.float32
    assert (batch.values[1, 3:] == -2.0).all()


@pytest.mark.parametrize("lengths", [[], [0, 0]])
def test_no_cells_no_batches(lengths):
    assert batches(toy.tokens_of(lengths), toy.SETTINGS, BatchPlan("padded", 100)) == []
