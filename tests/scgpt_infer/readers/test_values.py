import numpy as np
import pytest
from scipy import sparse

from scgpt_infer.readers.matrix import CsrRows, DenseRows
from scgpt_infer.readers.values import recognise
from scgpt_runtime.cells import CellBlock


def block_of(matrix: object) -> CellBlock:
    if not sparse.issparse(matrix):
        return DenseRows(matrix, "X").read(0, len(matrix))
    csr = sparse.csr_matrix(matrix)
    return CsrRows(csr.indptr, csr.indices, csr.data, csr.shape, "X").read(0, csr.shape[0])


def normalised(counts: sparse.csr_matrix, target: float = 1e4) -> np.ndarray:
    dense = counts.toarray().astype(np.float64)
    return dense / np.maximum(dense.sum(axis=1, keepdims=True), 1) * target


def scaled(counts: sparse.csr_matrix) -> np.ndarray:
    logged = np.log1p(normalised(counts))
    return ((logged - logged.mean(axis=0)) / (logged.std(axis=0) + 1e-9)).astype(np.float32)


@pytest.mark.parametrize(
    ("change", "values"),
    [
        (lambda counts: counts, "integer"),
        (normalised, "normalised"),
        (lambda counts: np.log1p(normalised(counts)), "log1p"),
        (lambda counts: np.log1p(normalised(counts)).astype(np.float16), "log1p"),
        (lambda counts: np.log1p(normalised(counts, 1e6)), "log1p"),
        (lambda counts: np.log1p(counts), "log1p"),
        # Selected genes: the sums of the rows differ, but the values are still multiples of one unit of the row.
        (lambda counts: np.log1p(normalised(counts))[:, ::3], "log1p"),
        (lambda counts: normalised(counts)[:, ::3] / 1e3, "normalised"),
        # Each gene with a factor of its own, as batch correction leaves it: nothing tells that it was logged.
        (lambda counts: np.log1p(counts.toarray() * np.random.default_rng(0).uniform(0.5, 2, (130, 40))), "normalised"),
        (lambda counts: normalised(counts, 1.0), "normalised"),
        (lambda counts: normalised(counts, 10.0), "normalised"),
        (scaled, "scaled"),
        (lambda counts: counts * 0, "integer"),
    ],
)
def test_values_are_recognised(change, values: str, counts: sparse.csr_matrix):
    assert recognise([block_of(change(counts))], logged=False).values == values


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -3.0])
def test_a_few_bad_values_do_not_hide_what_the_rest_is(bad: float, counts: sparse.csr_matrix):
    for change, values in ((lambda c: c.toarray(), "integer"), (lambda c: np.log1p(normalised(c)), "log1p")):
        dense = np.array(change(counts), np.float64)
        dense[7, :3] = bad
        assert recognise([block_of(dense)], logged=False).values == values


def test_half_of_the_rows_is_not_yet_scaled():
    dense = np.ones((10, 3), np.float32)
    dense[:5, 1] = -1
    assert recognise([block_of(dense)], logged=False).values == "integer"
    dense[5, 1] = -1
    look = recognise([block_of(dense)], logged=False)
    assert (look.values, look.n_rows, look.n_negative) == ("scaled", 10, 6)


def test_what_the_file_says_counts_where_the_values_do_not_tell(counts: sparse.csr_matrix):
    corrected = np.log1p(counts.toarray() * np.random.default_rng(0).uniform(0.5, 2, counts.shape))
    assert recognise([block_of(corrected)], logged=False).values == "normalised"
    assert recognise([block_of(corrected)], logged=True).values == "log1p"
    assert recognise([block_of(normalised(counts, 10.0))], logged=True).values == "normalised"
    assert recognise([block_of(counts)], logged=True).values == "integer"
