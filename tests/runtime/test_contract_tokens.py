"""The contract "same cell, same vector", as far as tokens go: against docs/contract.md, and property by property."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from scgpt_runtime.cells import CellBlock, CellFault, TokenBlock
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.tokenizer import tokenize

ROOT = Path(__file__).parents[2]
N_TOKENS = 120
BASE = {"cls_id": N_TOKENS, "pad_id": N_TOKENS + 1}
Row = tuple[list[int], list[float]]


@pytest.fixture(scope="module")
def written() -> Callable[..., Any]:
    """The tokenizer that docs/contract.md prints."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/contract.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return names["tokenize"]


def as_block(rows: list[Row], first_row: int = 0) -> CellBlock:
    """Make a block that still holds float64, so that the step to float32 is part of what is tested."""
    lengths = [len(indices) for indices, _ in rows]
    return CellBlock(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.array([i for indices, _ in rows for i in indices], np.int32),
        np.array([v for _, data in rows for v in data], np.float64),
        first_row,
    )


def cell(tokens: TokenBlock, i: int) -> tuple[int, list[tuple[int, float]]]:
    span = slice(tokens.offsets[i], tokens.offsets[i + 1])
    return int(tokens.faults[i]), list(zip(tokens.ids[span].tolist(), tokens.values[span].tolist(), strict=True))


def cells_of(tokens: TokenBlock) -> list[tuple[int, list[tuple[int, float]]]]:
    return [cell(tokens, i) for i in range(tokens.n_cells)]


def counts(rng: np.random.Generator, n_cells: int, n_columns: int, share: float = 0.3) -> NDArray[np.float32]:
    """Dense counts as a droplet gives them: mostly zeros and ones."""
    rate = rng.gamma(0.5, 4.0, n_columns) * rng.lognormal(0, 0.5, (n_cells, 1))
    return (rng.poisson(rate) * (rng.random((n_cells, n_columns)) < share)).astype(np.float32)


def rows_of(dense: NDArray[np.float32]) -> list[Row]:
    return [(np.flatnonzero(row).tolist(), row[np.flatnonzero(row)].tolist()) for row in dense]


@pytest.fixture(scope="module")
def columns() -> NDArray[np.int64]:
    """200 columns in no order: 110 known, some of them the same gene."""
    rng = np.random.default_rng(1)
    ids = np.concatenate([rng.permutation(N_TOKENS)[:100], [5, 5, 17, 40, 41, 42, 43, 44, 45, 46], np.full(90, -1)])
    return rng.permutation(ids).astype(np.int64)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    rng = np.random.default_rng(2)
    return rows_of(counts(rng, 40, 200)) + rows_of(counts(rng, 20, 200, 0.05)) + [([], []), ([3, 4], [0.0, -0.0])]


OPTIONS = [
    {},
    {"seed": 2**64 - 1},
    {"ties": "one-sided"},
    {"max_length": 20},
    {"max_length": 20, "sample": "top"},
    {"max_length": 2},
    {"n_bins": 6},
    {"n_bins": 2},
    {"cls_value": 0.0},
    {"value_style": "raw"},
    {"value_style": "raw", "max_length": 20, "cls_value": 0.0},
    {"value_style": "raw", "max_length": 20, "sample": "top"},
    {"include_zeros": True, "cls_value": 0.0},
    {"include_zeros": True, "max_length": 70, "seed": 5},
    {"include_zeros": True, "max_length": 70, "sample": "top", "ties": "one-sided"},
    {"include_zeros": True, "max_length": 10, "sample": "top"},
    {"include_zeros": True, "value_style": "raw"},
    {"include_zeros": True, "value_style": "raw", "max_length": 70, "sample": "top"},
]


# ---- against the written contract ------------------------------------------------------------------------------------


def expected(written: Callable[..., Any], row: Row, columns: NDArray[np.int64], s: TokenizerSettings) -> Any:
    first = s.cls_code if s.value_style == "binned" else s.cls_value
    fault, tokens = written(
        *row, columns.tolist(), cls=(s.cls_id, first), max_length=s.max_length, n_bins=s.n_bins,
        seed=s.seed, ties=s.ties, sample=s.sample, style=s.value_style, zeros=s.include_zeros,
    )  # fmt: skip
    return int(CellFault[fault]) if fault else 0, tokens


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_tokens_are_those_of_the_written_contract(written, rows, columns, options) -> None:
    s = TokenizerSettings(**BASE, **options)
    tokens = cells_of(tokenize(as_block(rows), columns, s, N_TOKENS + 2))
    assert tokens == [expected(written, row, columns, s) for row in rows]


@pytest.mark.parametrize("options", [{}, {"max_length": 30, "seed": 3}, {"include_zeros": True}], ids=str)
def test_normalised_and_continuous_values_too(written, columns, options) -> None:
    rng = np.random.default_rng(3)
    dense = counts(rng, 12, 200)
    dense[:6] = np.log1p(dense[:6] / np.maximum(dense[:6].sum(1, keepdims=True), 1) * 1e4)
    dense[6:] *= rng.random(dense[6:].shape, dtype=np.float32)
    rows = rows_of(dense)
    s = TokenizerSettings(**BASE, **options)
    tokens = cells_of(tokenize(as_block(rows), columns, s, N_TOKENS + 2))
    assert tokens == [expected(written, row, columns, s) for row in rows]


ODD_VALUES = st.sampled_from([0.0, -0.0, 1.0, 1.0, 1.0, 2.0, 2.5, 3.0, 2047.0, 2048.0, 1e-45, 1e-46, 3e38, 16777217.0])
BAD_VALUES = st.sampled_from([math.nan, math.inf, -math.inf, -1.0, -1e-46, 1e39])


@st.composite
def odd_rows(draw: st.DrawFn) -> Row:
    """Any row that a file may hold: repeated and unsorted columns, zeros, and now and then something bad."""
    n = draw(st.integers(0, 25))
    indices = draw(st.lists(st.integers(0, 29), min_size=n, max_size=n))
    data = draw(st.lists(ODD_VALUES, min_size=n, max_size=n))
    if n and draw(st.integers(0, 4)) == 0:
        data[draw(st.integers(0, n - 1))] = draw(BAD_VALUES)
    if n and draw(st.integers(0, 9)) == 0:
        indices[draw(st.integers(0, n - 1))] = draw(st.sampled_from([-1, 30, 2**31 - 1]))
    return indices, data


@settings(max_examples=150)
@given(
    rows=st.lists(odd_rows(), max_size=4),
    columns=st.lists(st.integers(-1, 9), min_size=30, max_size=30),
    options=st.sampled_from(OPTIONS[:4] + OPTIONS[5:]),
    max_length=st.integers(2, 12),
)
def test_any_row_gives_what_the_written_contract_says(written, rows, columns, options, max_length) -> None:
    s = TokenizerSettings(**BASE, **(options | {"max_length": max_length}))
    ids = np.array(columns, np.int64)
    tokens = cells_of(tokenize(as_block(rows), ids, s, N_TOKENS + 2))
    assert tokens == [expected(written, row, ids, s) for row in rows]


# ---- property by property --------------------------------------------------------------------------------------------

SHORT = TokenizerSettings(**BASE, max_length=25)


def test_a_cell_does_not_depend_on_its_row_or_its_neighbours(rows, columns) -> None:
    together = cells_of(tokenize(as_block(rows), columns, SHORT, N_TOKENS + 2))
    turned = cells_of(tokenize(as_block(rows[::-1], first_row=9999), columns, SHORT, N_TOKENS + 2))
    assert turned[::-1] == together
    for i, row in enumerate(rows):
        assert cells_of(tokenize(as_block([row], first_row=i), columns, SHORT, N_TOKENS + 2)) == [together[i]]


@pytest.mark.parametrize("threads", [2, 3, 64, 1000])
def test_threads_share_rows_without_a_trace(rows, columns, threads) -> None:
    alone = tokenize(as_block(rows), columns, SHORT, N_TOKENS + 2)
    shared = tokenize(as_block(rows), columns, SHORT, N_TOKENS + 2, threads=threads)
    for name in ("ids", "values", "offsets", "faults"):
        np.testing.assert_array_equal(getattr(shared, name), getattr(alone, name))


def test_column_order_does_not_matter(rows, columns) -> None:
    to = np.random.default_rng(4).permutation(len(columns))  # column c becomes column to[c]
    moved = np.empty_like(columns)
    moved[to] = columns
    unsorted = [(to[indices].tolist(), data) for indices, data in rows if indices]
    in_order = [tuple(np.array(x)[np.argsort(indices)].tolist() for x in (indices, data)) for indices, data in unsorted]
    before = cells_of(tokenize(as_block([r for r in rows if r[0]]), columns, SHORT, N_TOKENS + 2))
    assert cells_of(tokenize(as_block(unsorted), moved, SHORT, N_TOKENS + 2)) == before
    assert cells_of(tokenize(as_block(in_order), moved, SHORT, N_TOKENS + 2)) == before


def test_normalised_and_log1p_values_give_the_tokens_of_raw_counts(columns) -> None:
    dense = counts(np.random.default_rng(5), 60, 200)
    dense = dense[dense.sum(1) > 0]
    per_10k = (dense.astype(np.float64) / dense.sum(1, keepdims=True) * 1e4).astype(np.float32)
    log1p = np.log1p(dense.astype(np.float64) / dense.sum(1, keepdims=True) * 1e4).astype(np.float32)
    raw = cells_of(tokenize(as_block(rows_of(dense)), columns, SHORT, N_TOKENS + 2))
    assert any(len(tokens) == 25 for _, tokens in raw)
    for same in (per_10k, log1p, dense * np.float32(0.37), np.sqrt(dense)):
        assert cells_of(tokenize(as_block(rows_of(same)), columns, SHORT, N_TOKENS + 2)) == raw


def test_values_that_float32_cannot_tell_apart_are_one_value(columns) -> None:
    known = np.flatnonzero(columns >= 0)[:8].tolist()
    apart = [1.0, 2.0**24, 2.0**24 + 1, 2.0**24 + 2, 5.0, 6.0, 7.0, 8.0]
    together = [1.0, 2.0**24, 2.0**24, 2.0**24 + 2, 5.0, 6.0, 7.0, 8.0]
    tokens = cells_of(tokenize(as_block([(known, apart), (known, together)]), columns, SHORT, N_TOKENS + 2))
    assert tokens[0] == tokens[1]


@settings(max_examples=60)
@given(data=st.data())
def test_storage_does_not_matter(rows, columns, data) -> None:
    """Explicit zeros, a value split over several entries, and any order of the entries give the same cell."""
    indices, values = data.draw(st.sampled_from([row for row in rows if row[0]]))
    entries = []
    for index, value in zip(indices, values, strict=True):
        cut = data.draw(st.integers(0, int(value)))
        entries += [(index, float(cut)), (index, value - cut)]  # one of them is often an explicit zero
    entries += [(index, -0.0) for index in data.draw(st.lists(st.integers(0, 199), max_size=5))]
    entries = data.draw(st.permutations(entries))
    stored = ([index for index, _ in entries], [value for _, value in entries])
    plain, odd = cells_of(tokenize(as_block([(indices, values), stored]), columns, SHORT, N_TOKENS + 2))
    assert odd == plain


def test_a_split_value_is_summed_in_float64(columns) -> None:
    """In float32 2**24 + 1 + 1 is 2**24; in float64 it is 2**24 + 2, which float32 can hold."""
    c, d = np.flatnonzero(columns >= 0)[:2].tolist()
    raw = TokenizerSettings(**BASE, value_style="raw")
    tokens = tokenize(as_block([([c, c, c, d], [2.0**24, 1.0, 1.0, 1.0])]), columns, raw, N_TOKENS + 2)
    assert sorted(tokens.values.tolist()) == [-2.0, 1.0, 2.0**24 + 2]


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64, np.uint8, ">f4", ">i2"])
def test_dtype_of_the_input_does_not_matter(columns, dtype) -> None:
    plain = as_block(rows_of(np.minimum(counts(np.random.default_rng(6), 10, 200), 200)))
    odd = CellBlock(plain.indptr.astype(np.int32), plain.indices.astype(np.int64), plain.data.astype(dtype), 0)
    assert cells_of(tokenize(odd, columns, SHORT, N_TOKENS + 2)) == cells_of(
        tokenize(plain, columns, SHORT, N_TOKENS + 2)
    )


def test_another_seed_changes_tied_values_only(columns) -> None:
    dense = counts(np.random.default_rng(7), 30, 200)
    one = TokenizerSettings(**BASE, seed=1)
    two = TokenizerSettings(**BASE, seed=2)
    block = as_block(rows_of(dense))
    first, second = tokenize(block, columns, one, N_TOKENS + 2), tokenize(block, columns, two, N_TOKENS + 2)
    changed = first.values != second.values
    assert first.ids.tolist() == second.ids.tolist()
    assert 0.3 < changed.mean() < 0.95  # raw counts are mostly ties
    tie_free = as_block(rows_of(dense * np.random.default_rng(8).random(dense.shape, dtype=np.float32)))
    unlike = [cells_of(tokenize(tie_free, columns, s, N_TOKENS + 2)) for s in (one, two)]
    assert [tokens for _, tokens in unlike[0] if len(tokens) > 2] == [
        tokens for _, tokens in unlike[1] if len(tokens) > 2
    ]


def test_a_long_cell_keeps_the_bins_that_it_had_whole(rows, columns) -> None:
    whole = cells_of(tokenize(as_block(rows), columns, TokenizerSettings(**BASE), N_TOKENS + 2))
    short = cells_of(tokenize(as_block(rows), columns, SHORT, N_TOKENS + 2))
    for (_, all_tokens), (_, kept) in zip(whole, short, strict=True):
        assert len(kept) == min(len(all_tokens), 25)
        assert all(kept.count(token) <= all_tokens.count(token) for token in kept)


def test_ids_above_two_bytes_keep_all_rules(written, rows, columns) -> None:
    far = np.where(columns >= 0, columns * 1000 + 70_000, -1)
    s = TokenizerSettings(cls_id=200_000, pad_id=200_001, max_length=25)
    tokens = tokenize(as_block(rows), far, s, 200_002)
    assert tokens.ids.dtype == np.uint32
    assert cells_of(tokens) == [expected(written, row, far, s) for row in rows]
