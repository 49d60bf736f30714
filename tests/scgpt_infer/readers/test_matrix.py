"""Every storage and type of a matrix gives the same cells."""

from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest
from scipy import sparse

from scgpt_infer.readers import matrix, open_cells
from scgpt_infer.readers.matrix import CsrRows, DenseRows, narrow, to_float32
from scgpt_infer.readers.room import ReadingRoom


@pytest.mark.parametrize("storage", ["csr", "csc", "dense"])
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", ">f4", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"])
def test_every_type_becomes_the_same_float32(storage: str, dtype: str, counts, make_cells, tmp_path: Path, dense):
    expected = np.minimum(counts.toarray(), 1 if dtype == "?" else 100)
    written = make_cells(counts)
    written.write_h5ad(tmp_path / "cells.h5ad")
    values = expected.astype(dtype)
    with h5py.File(tmp_path / "cells.h5ad", "r+") as file:
        del file["X"]
        if storage == "dense":
            file["X"] = values
            file["X"].attrs["encoding-type"] = "array"
        else:
            stored = sparse.csr_matrix(expected).asformat(storage)
            group = file.create_group("X")
            group.attrs["encoding-type"], group.attrs["shape"] = f"{storage}_matrix", stored.shape
            group["indptr"] = stored.indptr.astype(np.int64)
            group["indices"], group["data"] = stored.indices.astype(np.int64), stored.data.astype(dtype)
    with open_cells(tmp_path / "cells.h5ad") as source:
        assert source.values == "integer"
        assert np.array_equal(dense(source), expected)


def test_what_a_row_holds_passes_through_untouched():
    data = np.array([2.0, 1.0, 3.0, 0.0, np.nan, -1.0, np.inf])
    indices = np.array([7, 3, 3, 1, 0, 2, 99])  # unsorted, twice the same, an explicit zero, outside the matrix
    rows = CsrRows(np.array([0, 4, 4, 7]), indices, data, (3, 8), "X")
    block = rows.read(0, 3)
    assert block.indices.tolist() == indices.tolist()
    assert np.array_equal(block.data, data.astype(np.float32), equal_nan=True)
    assert rows.read(2, 3).indptr.tolist() == [0, 3]
    assert rows.read(1, 2).indptr.tolist() == [0, 0]


def test_indices_never_wrap_into_the_matrix():
    wide = np.array([5, 2**32 + 5, -(2**32) + 5, 2**31, -1, 2**63 - 1])
    assert narrow(wide).tolist() == [5, -1, -1, -1, -1, -1]
    assert narrow(np.array([5, 2**31, 2**32 - 1], np.uint32)).tolist() == [5, -1, -1]
    assert narrow(np.array([5, 2**64 - 1], np.uint64)).tolist() == [5, -1]
    assert narrow(np.array([5, -1], np.int32)).tolist() == [5, -1]
    assert narrow(np.array([5, 255], np.uint8)).tolist() == [5, 255]


def test_values_beyond_float32_become_infinite_without_a_warning():
    assert to_float32(np.array([1e300, -1e300, 1.0])).tolist() == [np.inf, -np.inf, 1.0]


def test_blocks_do_not_share_memory_with_the_matrix(counts: sparse.csr_matrix):
    rows = CsrRows(counts.indptr, counts.indices, counts.data, counts.shape, "X")
    block = rows.read(0, 10)
    assert not np.shares_memory(block.data, counts.data)
    assert not np.shares_memory(block.indices, counts.indices)


def test_dense_slabs_give_what_one_read_gives(counts: sparse.csr_matrix, monkeypatch: pytest.MonkeyPatch, same):
    array = counts.toarray()
    array[5, 6] = np.nan
    whole = DenseRows(array, "X").read(10, 120)
    monkeypatch.setattr(matrix, "PIECE_BYTES", 3 * array.shape[1] * 4)
    few = ReadingRoom(slab_bytes=7 * array.shape[1] * 4)
    assert same(DenseRows(array, "X", few).read(10, 120), whole)
    assert np.isnan(DenseRows(array, "X").read(5, 6).data).sum() == 1


def test_only_the_asked_rows_are_read(counts: sparse.csr_matrix):
    class Watched:
        def __init__(self, array: np.ndarray) -> None:
            self.array, self.read = array, 0
            self.shape, self.dtype = array.shape, array.dtype

        def __getitem__(self, where: object) -> np.ndarray:
            part = self.array[where]
            self.read += np.size(part)
            return part

    data, indices = Watched(counts.data), Watched(counts.indices)
    CsrRows(counts.indptr, indices, data, counts.shape, "X").read(20, 30)
    assert data.read == indices.read == counts[20:30].nnz


def test_a_giant_indptr_is_checked_in_parts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(matrix, "CHECK_ROWS", 4)
    indptr = np.array([0, 1, 2, 3, 4, 3, 6, 7, 8, 9, 10])
    with pytest.raises(matrix.CellsError, match="decreases"):
        CsrRows(indptr, np.zeros(10, np.int32), np.ones(10), (10, 3), "X")


def test_anndata_round_trip_of_a_transposed_dense_file(make_cells, counts, tmp_path: Path, dense):
    make_cells(np.asfortranarray(counts.toarray())).write_h5ad(tmp_path / "cells.h5ad", compression="lzf")
    with open_cells(tmp_path / "cells.h5ad") as source:
        assert np.array_equal(dense(source), counts.toarray())
    assert isinstance(ad.read_h5ad(tmp_path / "cells.h5ad").X, np.ndarray)
