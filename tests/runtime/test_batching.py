from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import toy_bundle as toy
from scgpt_runtime.batching import BATCH_TOKENS, BatchPlan, batches, plan_for, rectangles, unpacked
from scgpt_runtime.errors import InternalError
from scgpt_runtime.providers import ProviderChoice

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


@given(lengths_of_cells, st.integers(1, 200))
def test_an_exact_plan_pads_nothing_and_mixes_no_lengths(lengths, budget):
    tokens = toy.tokens_of(lengths)
    made = rectangles(tokens, toy.SETTINGS, BatchPlan("exact", budget, step=8))
    for batch in made:
        assert set(batch.lengths.tolist()) == {batch.ids.shape[1]}
        assert batch.ids.size <= budget or len(batch.cells) == 1
    assert sorted(cell for batch in made for cell in batch.cells) == np.flatnonzero(lengths).tolist()
    # Cells of one length are parted by the budget alone.
    full = [batch for batch in made if len(batch.cells) == max(1, budget // batch.ids.shape[1])]
    assert len(made) - len(full) <= len(set(lengths))


@given(lengths_of_cells, st.integers(1, 200), st.sampled_from([1, 8, 32]))
def test_a_step_rounds_lengths_up_within_the_budget(lengths, budget, step):
    for batch in rectangles(toy.tokens_of(lengths), toy.SETTINGS, BatchPlan("padded", budget, step)):
        assert batch.ids.shape[1] % step == 0
        assert batch.ids.shape[1] - batch.lengths.max() < step
        assert batch.ids.size <= budget or len(batch.cells) == 1


@given(lengths_of_cells, st.sampled_from(["padded", "exact", "packed"]))
def test_a_batch_taken_apart_gives_its_cells_back(lengths, kind):
    tokens = toy.tokens_of(lengths)
    for batch in batches(tokens, toy.SETTINGS, BatchPlan(kind, 150, longest=40)):
        again = unpacked(batch)
        assert again.n_cells == len(batch.cells)
        for place, cell in enumerate(batch.cells):
            of_cell = slice(tokens.offsets[cell], tokens.offsets[cell + 1])
            part = slice(again.offsets[place], again.offsets[place + 1])
            np.testing.assert_array_equal(again.ids[part], tokens.ids[of_cell])
            np.testing.assert_array_equal(again.values[part], tokens.values[of_cell])


@pytest.mark.parametrize(
    ("provider", "dialect", "kind", "step"),
    [
        ("cpu", "portable", "padded", 1),
        ("openvino", "portable", "padded", 16),
        ("cuda", "portable", "padded", 32),
        ("cuda", "cuda-flash", "padded", 32),
        ("cuda", "cuda-lengths", "padded", 32),
        ("cuda", "cuda-exact", "exact", 32),
        ("cuda", "cuda-packed", "packed", 32),
        ("tensorrt", "portable", "padded", 32),
    ],
)
def test_the_plan_follows_dialect_and_provider(provider, dialect, kind, step):
    choice = ProviderChoice(provider, "fp16", "fp16", dialect, 2, 1, "")
    plan = plan_for(choice, toy.SETTINGS)
    assert plan == BatchPlan(kind, BATCH_TOKENS[provider], step, toy.SETTINGS.max_length)
    assert plan_for(choice, toy.SETTINGS, 77).budget == 77


@pytest.mark.parametrize("provider", ["cpu", "openvino", "cuda"])
def test_without_a_mask_only_cells_of_one_length_go_together(provider):
    choice = ProviderChoice(provider, "fp32", "fp32", "portable", 1, 1, "")
    plan = plan_for(choice, toy.SETTINGS, 1000, masked=False)
    made = batches(toy.tokens_of([5, 7, 5, 5, 9]), toy.SETTINGS, plan)
    assert [(batch.ids.shape, batch.cells.tolist()) for batch in made] == [
        ((1, 9), [4]),
        ((1, 7), [1]),
        ((3, 5), [0, 2, 3]),
    ]


def test_packed_batches_are_no_rectangles():
    with pytest.raises(InternalError, match="no rectangles"):
        rectangles(toy.tokens_of([3]), toy.SETTINGS, BatchPlan("packed", 128))


def test_batch_labels_and_flags_stay_with_their_cells_and_tokens():
    tokens = toy.tokens_of([3, 0, 7, 5, 4])
    flags = np.arange(len(tokens.ids), dtype=np.uint8)
    marked = replace(tokens, labels=np.array([4, 3, 2, 1, 0], np.int32), flags=flags)
    for batch in batches(marked, toy.SETTINGS, BatchPlan("padded", 14)):
        again = unpacked(batch)
        assert batch.arrays["batch"].tolist() == [4 - cell for cell in batch.cells.tolist()] == again.labels.tolist()
        for row, cell in enumerate(batch.cells.tolist()):
            its_own = flags[tokens.offsets[cell] : tokens.offsets[cell + 1]]
            np.testing.assert_array_equal(batch.arrays["flags"][row, : len(its_own)], its_own)
            assert not batch.flags[row, len(its_own) :].any()
            np.testing.assert_array_equal(again.flags[again.offsets[row] : again.offsets[row + 1]], its_own)


def test_cells_without_labels_or_flags_offer_none():
    (batch,) = batches(toy.tokens_of([3]), toy.SETTINGS, BatchPlan("padded", 14))
    assert batch.arrays.keys() == {"ids", "values", "lengths"}
