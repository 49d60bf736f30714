"""The tokenizer as its callers see it: shapes, faults, refusals, and the original's tokens."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from scgpt_runtime.cells import CellBlock, CellFault, TokenBlock
from scgpt_runtime.errors import CellsError, GenesError, OptionError
from scgpt_runtime.kernels import bins_from_draws
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.tokenizer import tokenize

GOLDEN = Path(__file__).parents[1] / "golden"
COLUMNS = np.array([7, -1, 3, 5, -1, 3], np.int64)
SETTINGS = TokenizerSettings(cls_id=8, pad_id=9)
VOCABULARY = 10


def block(*rows: dict[int, float]) -> CellBlock:
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    indices = np.array([column for row in rows for column in row], np.int32)
    return CellBlock(indptr, indices, np.array([v for row in rows for v in row.values()], np.float32), 40)


def test_a_block_of_good_and_bad_cells() -> None:
    cells = block({0: 4, 2: 1, 3: 2}, {0: np.nan}, {1: 5, 4: 1}, {}, {5: 2.5})
    tokens = tokenize(cells, COLUMNS, SETTINGS, VOCABULARY)
    assert (tokens.n_cells, tokens.first_row) == (5, 40)
    assert tokens.offsets.tolist() == [0, 4, 4, 4, 4, 6]
    assert tokens.ids.tolist()[:5] == [8, 3, 5, 7, 8]
    assert tokens.values.tolist()[0] == tokens.values.tolist()[4] == 52
    assert tokens.faults.tolist() == [0, CellFault.NAN, CellFault.NO_KNOWN_GENE, CellFault.NO_COUNTS, 0]
    assert [a.dtype for a in (tokens.ids, tokens.values, tokens.offsets, tokens.faults)] == [
        np.uint16, np.uint8, np.int64, np.uint8,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({0: np.nan, 2: 1}, CellFault.NAN),
        ({1: np.nan, 2: 1}, CellFault.NAN),
        ({0: np.inf, 2: 1}, CellFault.INFINITE),
        ({0: -np.inf, 2: 1}, CellFault.INFINITE),
        ({0: -1, 2: 1}, CellFault.NEGATIVE),
        ({4: -1e-30, 2: 1}, CellFault.NEGATIVE),
        ({6: 1, 2: 1}, CellFault.BAD_INDEX),
        ({-1: 1, 2: 1}, CellFault.BAD_INDEX),
        ({2**31 - 1: 0, 2: 1}, CellFault.BAD_INDEX),
        ({6: np.nan, 0: np.inf, 2: -1}, CellFault.BAD_INDEX),
        ({0: np.inf, 2: np.nan, 3: -1}, CellFault.NAN),
        ({0: 0, 1: -0.0}, CellFault.NO_COUNTS),
        ({1: 1, 4: 2, 0: 0}, CellFault.NO_KNOWN_GENE),
    ],
    ids=str,
)
def test_one_bad_value_costs_its_own_cell_and_no_other(row, fault) -> None:
    good = {0: 1.0, 2: 3.0, 3: 2.0}
    tokens = tokenize(block(good, row, good), COLUMNS, SETTINGS, VOCABULARY)
    alone = tokenize(block(good), COLUMNS, SETTINGS, VOCABULARY)
    assert tokens.faults.tolist() == [0, fault, 0]
    assert np.diff(tokens.offsets).tolist() == [4, 0, 4]
    assert tokens.values.tolist() == alone.values.tolist() * 2
    assert CellFault(fault).reason


def test_repeated_columns_that_overflow_float32_are_infinite() -> None:
    cells = CellBlock(np.array([0, 2]), np.array([0, 0], np.int32), np.array([3e38, 3e38], np.float32), 0)
    assert tokenize(cells, COLUMNS, SETTINGS, VOCABULARY).faults.tolist() == [CellFault.INFINITE]


def test_a_negative_part_of_a_repeated_column_is_no_negative_value() -> None:
    cells = CellBlock(np.array([0, 2]), np.array([0, 0], np.int32), np.array([-1, 3], np.float32), 0)
    raw = TokenizerSettings(cls_id=8, pad_id=9, value_style="raw")
    assert tokenize(cells, COLUMNS, raw, VOCABULARY).values.tolist() == [-2, 2]


def test_two_columns_of_one_gene_stay_two_tokens_by_ascending_value() -> None:
    raw = TokenizerSettings(cls_id=8, pad_id=9, value_style="raw")
    tokens = tokenize(block({2: 9, 5: 1, 0: 2}, {2: 1, 5: 9, 0: 2}), COLUMNS, raw, VOCABULARY)
    assert tokens.ids.tolist() == [8, 3, 3, 7] * 2
    assert tokens.values.tolist() == [-2, 1, 9, 2] * 2


def test_of_two_columns_of_one_gene_the_larger_value_stays() -> None:
    raw = TokenizerSettings(cls_id=8, pad_id=9, value_style="raw", max_length=2)
    tokens = tokenize(block({2: 9, 5: 1}, {2: 1, 5: 9}), COLUMNS, raw, VOCABULARY)
    assert tokens.values.tolist() == [-2, 9] * 2


def test_top_keeps_the_largest_values() -> None:
    dense = np.random.default_rng(0).permutation(np.arange(1, 41)).astype(np.float32)
    cells = CellBlock(np.array([0, 40]), np.arange(40, dtype=np.int32), dense, 0)
    top = TokenizerSettings(cls_id=40, pad_id=41, max_length=11, sample="top")
    tokens = tokenize(cells, np.arange(40), top, 42)
    assert tokens.ids.tolist() == [40, *np.flatnonzero(dense > 30)]


def test_fine_tuned_cls_has_value_zero() -> None:
    tuned = TokenizerSettings(cls_id=8, pad_id=9, cls_value=0.0)
    assert tokenize(block({0: 1}), COLUMNS, tuned, VOCABULARY).values[0] == 0


@pytest.mark.parametrize(("size", "dtype"), [(65_535, np.uint16), (65_536, np.uint32)])
def test_ids_take_two_bytes_as_long_as_they_can(size, dtype) -> None:
    settings = TokenizerSettings(cls_id=size - 1, pad_id=size - 2)
    tokens = tokenize(block({0: 1}), np.array([size - 3]), settings, size)
    assert tokens.ids.dtype == dtype
    assert tokens.ids.tolist() == [size - 1, size - 3]


@pytest.mark.parametrize("style", ["binned", "raw"])
def test_no_cells_at_all(style) -> None:
    settings = TokenizerSettings(cls_id=8, pad_id=9, value_style=style)
    tokens = tokenize(block(), COLUMNS, settings, VOCABULARY)
    assert (tokens.n_cells, tokens.offsets.tolist(), len(tokens.ids), len(tokens.faults)) == (0, [0], 0, 0)
    assert tokens.values.dtype == (np.uint8 if style == "binned" else np.float32)


def test_no_columns_at_all() -> None:
    tokens = tokenize(block({}, {0: 1}), np.empty(0, np.int64), SETTINGS, VOCABULARY)
    assert tokens.faults.tolist() == [CellFault.NO_COUNTS, CellFault.BAD_INDEX]


def test_read_only_unaligned_and_strided_arrays_are_welcome() -> None:
    plain = block({0: 1, 2: 2, 3: 3}, {3: 1, 5: 2})
    raw = np.frombuffer(b"x" + plain.data.tobytes(), np.uint8)[1:].view(np.float32)
    odd = CellBlock(plain.indptr, np.repeat(plain.indices, 2)[::2], raw, 40)
    odd.indptr.flags.writeable = False
    assert not raw.flags.writeable
    one, two = (tokenize(b, COLUMNS, SETTINGS, VOCABULARY) for b in (plain, odd))
    assert (one.ids.tolist(), one.values.tolist()) == (two.ids.tolist(), two.values.tolist())


@pytest.mark.parametrize(
    ("indptr", "n_indices", "n_data"),
    [
        ([0, 2, 1, 3], 3, 3),
        ([0, 2, 9], 3, 3),
        ([0, 2], 3, 3),
        ([1, 3], 3, 3),
        ([], 0, 0),
        ([0, 3], 3, 2),
        ([0, -1, 3], 3, 3),
    ],
)
def test_a_damaged_matrix_is_refused_before_it_is_read(indptr, n_indices, n_data) -> None:
    damaged = CellBlock(np.array(indptr, np.int64), np.zeros(n_indices, np.int32), np.ones(n_data, np.float32), 0)
    with pytest.raises(CellsError, match="damaged"):
        tokenize(damaged, COLUMNS, SETTINGS, VOCABULARY)


@pytest.mark.parametrize("columns", [[0, 10], [-2, 3]])
def test_token_ids_outside_the_vocabulary_are_refused(columns) -> None:
    with pytest.raises(GenesError, match="-1 \\(unknown\\) to 9"):
        tokenize(block({0: 1}), np.array(columns, np.int64), SETTINGS, VOCABULARY)


@pytest.mark.parametrize(
    "setting", [{"max_length": 1}, {"n_bins": 1}, {"n_bins": 255}, {"seed": -1}, {"seed": 2**64}], ids=str
)
def test_settings_that_cannot_be_followed_are_refused(setting) -> None:
    with pytest.raises(OptionError, match=next(iter(setting))):
        tokenize(block({0: 1}), COLUMNS, TokenizerSettings(cls_id=8, pad_id=9, **setting), VOCABULARY)


# ---- the original's own tokens --------------------------------------------------------------------------------------


def golden(name: str) -> tuple[CellBlock, NDArray[np.int64], TokenizerSettings, int, list[set[tuple[int, int]]]]:
    """Cells, columns, settings, vocabulary size, and the (id, bin) pairs of each cell that the original collated."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        arrays = dict(file)
    vocabulary = json.loads((GOLDEN / "small_checkpoint/vocab.json").read_text())
    columns = np.array([vocabulary.get(str(gene), -1) for gene in arrays["genes"]], np.int64)
    dense = arrays["X"].astype(np.float32)
    rows = [np.flatnonzero(row) for row in dense]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    data = np.concatenate([values[row] for values, row in zip(dense, rows, strict=True)])
    cells = CellBlock(indptr, np.concatenate(rows).astype(np.int32), data, 0)
    settings = TokenizerSettings(cls_id=vocabulary["<cls>"], pad_id=vocabulary["<pad>"])
    pairs = [
        {(int(i), int(e)) for i, e in zip(ids[1:], bins[1:], strict=True) if i != settings.pad_id}
        for batch in range(sum(key.startswith("gene_") for key in arrays))
        for ids, bins in zip(arrays[f"gene_{batch}"], arrays[f"expr_{batch}"], strict=True)
    ]
    return cells, columns, settings, len(vocabulary), pairs


def pairs_of(tokens: TokenBlock) -> list[set[tuple[int, int]]]:
    spans = [slice(a + 1, b) for a, b in pairwise(tokens.offsets)]
    return [set(zip(tokens.ids[s].tolist(), tokens.values[s].tolist(), strict=True)) for s in spans]


def test_cells_without_ties_have_exactly_the_originals_tokens() -> None:
    cells, columns, settings, size, expected = golden("embed_small_continuous")
    assert pairs_of(tokenize(cells, columns, settings, size)) == expected


def test_with_its_own_draws_tied_cells_have_exactly_the_originals_bins() -> None:
    """The original draws one number per kept value, cell by cell, from the seeded global generator."""
    cells, columns, _, _, expected = golden("embed_small")
    stream = np.random.RandomState(0)
    for (start, stop), pairs in zip(pairwise(cells.indptr), expected, strict=True):
        ids = columns[cells.indices[start:stop]]
        values = cells.data[start:stop][ids >= 0]
        bins = bins_from_draws(values, stream.random_sample(len(values)), np.linspace(0, 1, 50))
        assert set(zip(ids[ids >= 0].tolist(), bins.tolist(), strict=True)) == pairs


def test_with_our_draws_untied_values_keep_the_originals_bins() -> None:
    """On counts only the tied values may differ, and all draws together are as large as the original's."""
    cells, columns, settings, size, expected = golden("embed_small")
    ours, theirs = [dict(p) for p in pairs_of(tokenize(cells, columns, settings, size))], [dict(p) for p in expected]
    assert [set(cell) for cell in ours] == [set(cell) for cell in theirs]
    differences = [mine[i] - cell[i] for mine, cell in zip(ours, theirs, strict=True) for i in cell]
    assert abs(np.mean(differences)) < 4 * np.std(differences) / np.sqrt(len(differences))
    assert np.mean(np.array(differences) == 0) > 0.1
