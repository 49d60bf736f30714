from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import toy_bundle as toy
from scgpt_runtime.batching import BatchPlan, batches
from scgpt_runtime.packing import packed

lengths_of_cells = st.lists(st.integers(0, 300), max_size=60)
budgets = st.integers(1, 5000)


@given(lengths_of_cells, budgets)
def test_every_cell_with_tokens_is_in_one_batch_with_its_own_tokens(lengths, budget):
    tokens = toy.tokens_of(lengths)
    seen = []
    for batch in packed(tokens, toy.SETTINGS, budget, 300):
        for row, cell in enumerate(batch.cells):
            part = slice(batch.offsets[row], batch.offsets[row + 1])
            of_cell = slice(tokens.offsets[cell], tokens.offsets[cell + 1])
            np.testing.assert_array_equal(batch.ids[part], tokens.ids[of_cell])
            np.testing.assert_array_equal(batch.values[part], tokens.values[of_cell])
            assert batch.lengths[row] == part.stop - part.start
            seen.append(int(cell))
    assert sorted(seen) == [cell for cell, length in enumerate(lengths) if length > 0]


@given(lengths_of_cells, budgets)
def test_a_batch_keeps_to_the_budget_unless_it_is_one_cell(lengths, budget):
    for batch in packed(toy.tokens_of(lengths), toy.SETTINGS, budget, 300):
        assert batch.n_tokens <= budget or len(batch.cells) == 1
        assert batch.n_tokens % 128 == 0


@given(lengths_of_cells, budgets)
def test_what_is_no_cell_is_dummies_of_pad_tokens_then_nothing(lengths, budget):
    tokens = toy.tokens_of(lengths)
    for batch in packed(tokens, toy.SETTINGS, budget, 300):
        n, real = len(batch.cells), int(batch.lengths.sum())
        each = np.diff(batch.offsets)
        assert batch.offsets[0] == 0
        assert batch.offsets[-1] == batch.n_tokens  # no token is in no row
        assert (each[:n] > 0).all()
        assert ((each[n:] > 0).cumprod() == (each[n:] > 0)).all()
        assert each.max() <= batch.places.shape[1]
        assert (batch.ids[real:] == toy.SETTINGS.pad_id).all()
        assert (batch.values[real:] == toy.SETTINGS.pad_code).all()
        np.testing.assert_array_equal(batch.firsts, np.where(each > 0, batch.offsets[:-1], 0))
        assert batch.firsts.max() < batch.n_tokens


@given(lengths_of_cells, budgets)
def test_places_put_every_token_where_its_padded_cell_has_it(lengths, budget):
    for batch in packed(toy.tokens_of(lengths), toy.SETTINGS, budget, 300):
        rows, width = batch.places.shape
        places = batch.places.ravel()
        np.testing.assert_array_equal(np.sort(places), np.arange(rows * width))
        laid = np.full(rows * width, -1)
        laid[places[: batch.n_tokens]] = np.arange(batch.n_tokens)
        for row, laid_row in enumerate(laid.reshape(rows, width)):
            expected = np.arange(batch.offsets[row], batch.offsets[row + 1])
            np.testing.assert_array_equal(laid_row[: len(expected)], expected)
            assert (laid_row[len(expected) :] == -1).all()


@given(lengths_of_cells, budgets)
def test_composition_depends_on_lengths_and_plan_alone(lengths, budget):
    one = packed(toy.tokens_of(lengths, seed=1), toy.SETTINGS, budget, 300)
    two = packed(toy.tokens_of(lengths, seed=2), replace(toy.SETTINGS, seed=99), budget, 300)
    assert [batch.cells.tolist() for batch in one] == [batch.cells.tolist() for batch in two]


@given(lengths_of_cells, budgets)
def test_what_a_graph_gets_has_the_dtypes_of_its_inputs(lengths, budget):
    for batch in packed(toy.tokens_of(lengths), toy.SETTINGS, budget, 300):
        dtypes = {name: array.dtype.name for name, array in batch.arrays.items()}
        assert dtypes == {"ids": "uint16", "values": "uint8", "offsets": "int32", "places": "int32", "firsts": "int32"}


def blocks(n_blocks, n_cells=1024):
    """Cells as they come: some hundred genes each, a few with very many or few."""
    random = np.random.default_rng(5)
    for _ in range(n_blocks):
        yield np.clip(random.lognormal(6.5, 0.5, n_cells).astype(int), 2, 1200)


def test_few_shapes_recur_and_little_is_wasted():
    shapes, full, spent, used = {}, 0, 0, 0
    for lengths in blocks(8):
        made = packed(toy.tokens_of(lengths), toy.SETTINGS, 16384, 1200)
        for batch in made:
            shape = tuple(array.shape for array in batch.arrays.values())
            shapes[shape] = shapes.get(shape, 0) + 1
        full += sum(batch.n_tokens == 16384 for batch in made)
        spent, used = spent + sum(batch.n_tokens for batch in made), used + lengths.sum()
    assert len(shapes) <= 12
    assert full > 0.9 * sum(shapes.values())
    assert used > 0.97 * spent


def test_short_cells_do_not_make_a_huge_rectangle():
    for batch in packed(toy.tokens_of([3] * 5000), toy.SETTINGS, 16384, 1200):
        assert batch.places.size <= 2 * 128 * 1200


def test_one_long_cell_makes_a_batch_of_its_own():
    made = packed(toy.tokens_of([1000, 2000, 900]), toy.SETTINGS, 1920, 1200)
    assert [batch.cells.tolist() for batch in made] == [[1], [0, 2]]
    assert [batch.n_tokens for batch in made] == [2048, 1920]
    assert {batch.places.shape[1] for batch in made} == {2000}


def test_raw_values_are_filled_up_with_the_pad_value():
    tokens = toy.tokens_of([3, 5])
    tokens = replace(tokens, values=tokens.values.astype(np.float32))
    (batch,) = packed(tokens, replace(toy.SETTINGS, value_style="raw"), 128, 24)
    assert batch.values.dtype == np.float32
    assert (batch.values[8:] == -2.0).all()


@pytest.mark.parametrize("lengths", [[], [0, 0]])
def test_no_cells_no_batches(lengths):
    assert batches(toy.tokens_of(lengths), toy.SETTINGS, BatchPlan("packed", 1024, longest=24)) == []
