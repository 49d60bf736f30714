"""Cells of several modalities become tokens: each modality binned by itself, one cell otherwise."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from scgpt_runtime.cells import TokenBlock
from scgpt_runtime.errors import OptionError
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.tokenizer import tokenize
from tests.runtime.test_contract_tokens import (
    BASE,
    N_TOKENS,
    OPTIONS,
    Row,
    as_block,
    cell,
    counts,
    expected,
    rows_of,
    written,
)

__all__ = ["written"]

SIZE = N_TOKENS + 2
COLUMNS = np.concatenate([np.arange(0, N_TOKENS, 2), np.arange(1, N_TOKENS, 2), [-1, 3, 3]]).astype(np.int64)


@pytest.fixture(scope="module")
def modalities() -> NDArray[np.uint8]:
    """Three modalities, their ids all mixed; the specials have their own."""
    drawn = np.random.default_rng(7).choice(np.array([0, 1, 4], np.uint8), SIZE)
    drawn[N_TOKENS:] = [2, 3]
    return drawn


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    rng = np.random.default_rng(8)
    dense = counts(rng, 30, len(COLUMNS), 0.6)
    dense[10:20] *= rng.random((10, len(COLUMNS)), np.float32)
    dense[:, 60:] *= 300  # one half of the columns counts on another scale, beyond what is counted without a sort
    return [*rows_of(dense), ([], []), ([0], [2.0]), ([0, 60], [2.0, 700.0])]


@pytest.mark.parametrize("options", [o for o in OPTIONS if o.get("sample") != "top"], ids=str)
def test_tokens_of_several_modalities_are_those_of_the_written_contract(
    written: Callable[..., Any], rows: list[Row], modalities: NDArray[np.uint8], options: dict[str, Any]
) -> None:
    s = TokenizerSettings(**BASE, **options)
    tokens = tokenize(as_block(rows), COLUMNS, s, SIZE, modalities=modalities)

    def of_modalities(*args: Any, **given: Any) -> Any:
        return written(*args, **given, modality=modalities.tolist())

    assert [cell(tokens, i) for i in range(tokens.n_cells)] == [
        expected(of_modalities, row, COLUMNS, s) for row in rows
    ]


def test_what_is_measured_beside_a_modality_does_not_move_its_bins(
    rows: list[Row], modalities: NDArray[np.uint8]
) -> None:
    s = TokenizerSettings(**BASE)
    whole = tokenize(as_block(rows), COLUMNS, s, SIZE, modalities=modalities)
    for modality in (0, 1, 4):
        columns = np.where((COLUMNS >= 0) & (modalities[COLUMNS] == modality), COLUMNS, -1)
        alone = tokenize(as_block(rows), columns, s, SIZE, modalities=modalities)
        plain = tokenize(as_block(rows), columns, s, SIZE)
        for (first, last), (start, stop) in zip(pairwise(alone.offsets), pairwise(whole.offsets), strict=True):
            of_whole = pairs(whole, start + 1, stop, modalities, modality)
            assert pairs(alone, first + 1, last, modalities, modality) == of_whole
            assert pairs(plain, first + 1, last, modalities, modality) == of_whole


def pairs(
    tokens: TokenBlock, start: int, stop: int, modalities: NDArray[np.uint8], modality: int
) -> list[tuple[int, int]]:
    ids, values = tokens.ids[start:stop], tokens.values[start:stop]
    own = modalities[ids] == modality
    return list(zip(ids[own].tolist(), values[own].tolist(), strict=True))


def test_a_model_of_one_modality_has_the_tokens_of_a_model_without(rows: list[Row]) -> None:
    s = TokenizerSettings(**BASE, max_length=40)
    one = tokenize(as_block(rows), COLUMNS, s, SIZE, modalities=np.full(SIZE, 1, np.uint8))
    none = tokenize(as_block(rows), COLUMNS, s, SIZE)
    for name in ("ids", "values", "offsets", "faults"):
        np.testing.assert_array_equal(getattr(one, name), getattr(none, name))


def test_threads_share_cells_of_several_modalities(rows: list[Row], modalities: NDArray[np.uint8]) -> None:
    s = TokenizerSettings(**BASE, max_length=40)
    alone, shared = (
        tokenize(as_block(rows), COLUMNS, s, SIZE, threads=threads, modalities=modalities) for threads in (1, 5)
    )
    for name in ("ids", "values", "offsets", "faults"):
        np.testing.assert_array_equal(getattr(shared, name), getattr(alone, name))


def test_the_largest_values_of_several_modalities_are_not_asked_for(
    rows: list[Row], modalities: NDArray[np.uint8]
) -> None:
    top = TokenizerSettings(**BASE, sample="top")
    with pytest.raises(OptionError, match="several modalities"):
        tokenize(as_block(rows), COLUMNS, top, SIZE, modalities=modalities)
    of_one = np.where((COLUMNS >= 0) & (modalities[COLUMNS] == 1), COLUMNS, -1)
    assert tokenize(as_block(rows), of_one, top, SIZE, modalities=modalities).n_cells == len(rows)
