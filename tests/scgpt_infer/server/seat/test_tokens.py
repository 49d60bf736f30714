"""The tokens of a request's cells are those of the same cells as rows of a matrix."""

import numpy as np
import pytest

import toy_bundle
from scgpt_infer.server.asking import Cells
from scgpt_infer.server.seat import tokens as module
from scgpt_infer.server.seat.tokens import tokens_of
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.tokenizer import tokenize

N_TOKENS = toy_bundle.GENES + 2


def tokenise(block, columns):
    return tokenize(block, columns, toy_bundle.SETTINGS, N_TOKENS)


def some_cells(n_cells, rng, unknown=0.1):
    lengths = rng.integers(0, 40, n_cells)
    tokens = [rng.permutation(toy_bundle.GENES)[:length] for length in lengths]
    tokens = np.concatenate(tokens).astype(np.int32)
    tokens[rng.random(len(tokens)) < unknown] = -1
    values = rng.integers(0, 9, len(tokens)).astype(np.float32)
    return Cells(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), tokens, values)


@pytest.mark.parametrize("most", [1, 50, 1 << 16])
def test_they_are_those_of_a_matrix(most, monkeypatch):
    monkeypatch.setattr(module, "_VALUES", most)
    cells = some_cells(60, np.random.default_rng(3))
    found = tokens_of(cells, tokenise)
    # the same cells as a matrix whose columns are the tokens, and one that no token has
    indices = np.where(cells.tokens < 0, N_TOKENS, cells.tokens).astype(np.int32)
    columns = np.concatenate([np.arange(N_TOKENS), [-1]])
    keep = cells.tokens >= 0  # of unknown genes a matrix has one column, so a cell has at most one here
    rows = np.repeat(np.arange(cells.n_cells), np.diff(cells.indptr))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows[keep], minlength=cells.n_cells))])
    expected = tokenise(CellBlock(indptr.astype(np.int64), indices[keep], cells.values[keep], 0), columns)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.offsets, expected.offsets)


def test_a_gene_that_a_cell_has_twice_stays_two_tokens():
    cells = Cells(np.array([0, 3]), np.array([4, 9, 4], np.int32), np.array([1, 2, 3], np.float32))
    assert tokens_of(cells, tokenise).ids.tolist() == [toy_bundle.SETTINGS.cls_id, 4, 4, 9]


def test_unknown_genes_and_bad_values_are_faults_of_their_cell_alone():
    values = np.array([1, np.nan, 2, 0], np.float32)
    cells = Cells(np.array([0, 1, 2, 3, 4]), np.array([-1, 3, 5, 6], np.int32), values)
    found = tokens_of(cells, tokenise)
    assert [bool(fault) for fault in found.faults.tolist()] == [True, True, False, True]
    assert np.diff(found.offsets).tolist() == [0, 0, 2, 0]


def test_where_zeros_are_shown_a_cell_has_the_zeros_that_it_tells_and_no_others():
    from dataclasses import replace

    settings = replace(toy_bundle.SETTINGS, include_zeros=True)
    cells = Cells(np.array([0, 2, 4]), np.array([1, 2, 3, 4], np.int32), np.array([5, 0, 6, 7], np.float32))
    found = tokens_of(cells, lambda block, columns: tokenize(block, columns, settings, N_TOKENS), alone=True)
    assert [found.ids[found.offsets[i] : found.offsets[i + 1]].tolist()[1:] for i in range(2)] == [[1, 2], [3, 4]]
