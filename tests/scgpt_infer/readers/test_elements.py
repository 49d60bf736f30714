import numpy as np
import pytest
from scipy import sparse

from scgpt_infer.readers.elements import open_rows
from scgpt_runtime.errors import CellsError


def test_a_numpy_matrix_is_read_as_an_array(counts: sparse.csr_matrix, same):
    array, matrix = (open_rows(element, "X", counts.shape) for element in (counts.toarray(), counts.todense()))
    assert same(array.read(10, 30), matrix.read(10, 30))


@pytest.mark.parametrize("kind", ["csr_matrix", "csr_array", "csc_matrix", "csc_array"])
def test_every_scipy_class_gives_the_same_rows(kind: str, counts: sparse.csr_matrix, same):
    rows = open_rows(getattr(sparse, kind)(counts), "X", counts.shape)
    assert same(rows.read(10, 30), open_rows(counts, "X", counts.shape).read(10, 30))


def test_a_dask_array_is_refused_with_the_way_out():
    lazy = type("Array", (), {"__module__": "dask.array.core"})()
    with pytest.raises(
        CellsError, match=r"X is a dask\.array\.core\.Array; expected .*call adata\.to_memory\(\) first"
    ):
        open_rows(lazy, "X", (1, 1))


def test_other_sparse_formats_are_named(counts: sparse.csr_matrix):
    with pytest.raises(CellsError, match=r"coo_matrix; expected .*convert it to scipy\.sparse\.csr_matrix"):
        open_rows(counts.tocoo(), "X", counts.shape)


def test_another_shape_than_the_names_say(counts: sparse.csr_matrix):
    with pytest.raises(CellsError, match="X is 130 cells by 40 genes, but 7 cells and 40 genes are named"):
        open_rows(counts, "X", (7, 40))
    with pytest.raises(CellsError, match="X has 3 dimensions"):
        open_rows(np.ones((2, 2, 2)), "X", (2, 2))
