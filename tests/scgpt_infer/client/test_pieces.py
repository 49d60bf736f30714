import numpy as np
import pytest
from scipy import sparse

from scgpt_infer.client import pieces as module
from scgpt_infer.client.pieces import Most, pieces
from scgpt_runtime.cells import CellBlock, CellFault


def block_of(dense: np.ndarray, first_row: int = 0) -> CellBlock:
    csr = sparse.csr_matrix(dense.astype(np.float32))
    return CellBlock(csr.indptr.astype(np.int64), csr.indices, csr.data, first_row)


def dense_of(block: CellBlock, n_genes: int) -> np.ndarray:
    return sparse.csr_matrix((block.data, block.indices, block.indptr), (block.n_cells, n_genes)).toarray()


@pytest.mark.parametrize(("most", "values"), [(3, 2**21), (100, 12), (100, 1), (1, 2**21)])
def test_all_cells_are_there_once_and_in_order(monkeypatch, most, values):
    monkeypatch.setattr(module, "VALUES_PER_REQUEST", values)
    dense = np.random.default_rng(0).poisson(0.7, (10, 8))
    dense[4] = 0
    found = list(pieces(block_of(dense, 100), 8, Most(most), zeros=False))
    np.testing.assert_array_equal(np.vstack([dense_of(piece.block, 8) for piece in found]), dense)
    firsts = [piece.block.first_row for piece in found]
    assert firsts == [100 + place for place in np.cumsum([0, *(piece.block.n_cells for piece in found)])[:-1]]
    for piece in found:
        assert piece.block.n_cells <= most
        assert piece.block.n_cells == 1 or len(piece.block.data) <= values


def test_a_model_that_takes_zeros_gets_them(monkeypatch):
    dense = np.array([[0, 2, 0], [1, 0, 3]])
    (piece,) = pieces(block_of(dense), 3, Most(10), zeros=True)
    np.testing.assert_array_equal(piece.block.data, [0, 2, 0, 1, 0, 3])
    np.testing.assert_array_equal(piece.block.indices, [0, 1, 2, 0, 1, 2])
    twice = CellBlock(np.array([0, 2]), np.array([1, 1], np.int32), np.array([2, 3], np.float32), 0)
    (piece,) = pieces(twice, 3, Most(10), zeros=True)
    np.testing.assert_array_equal(piece.block.data, [0, 5, 0])
    monkeypatch.setattr(module, "VALUES_PER_REQUEST", 3)
    assert [piece.block.n_cells for piece in pieces(block_of(dense), 3, Most(10), zeros=True)] == [1, 1]


def test_a_cell_with_a_column_that_is_not_there_is_told_and_the_others_go():
    block = CellBlock(np.array([0, 1, 3, 4]), np.array([0, 7, 1, 2], np.int32), np.ones(4, np.float32), 20)
    (piece,) = pieces(block, 3, Most(10), zeros=False)
    assert piece.broken == {21: CellFault.BAD_INDEX.reason}
    np.testing.assert_array_equal(dense_of(piece.block, 3), [[1, 0, 0], [0, 0, 0], [0, 0, 1]])
