import tempfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from scgpt_infer.readers import regroup, spool
from scgpt_infer.readers.csc import CscRows
from scgpt_infer.readers.matrix import CsrRows
from scgpt_infer.readers.room import ROOM
from scgpt_runtime.errors import CellsError


def opened(matrix: sparse.csc_matrix, budget: int = ROOM.bucket_bytes) -> CscRows:
    return CscRows(matrix.indptr, matrix.indices, matrix.data, matrix.shape, "X", budget)


@pytest.fixture
def csr(counts: sparse.csr_matrix) -> CsrRows:
    return CsrRows(counts.indptr, counts.indices, counts.data, counts.shape, "X")


# In memory at once; in a few buckets on disk; in buckets of single rows, some of which exceed the budget.
@pytest.mark.parametrize("budget", [ROOM.bucket_bytes, 800, 8])
@pytest.mark.parametrize("slab", [1 << 22, 37])
def test_rows_are_those_of_the_csr_matrix(budget: int, slab: int, counts, csr, monkeypatch, same):
    monkeypatch.setattr(regroup, "SLAB_ENTRIES", slab)
    rows = opened(counts.tocsc(), budget)
    for start, stop in [(0, 130), (0, 48), (48, 96), (96, 130), (3, 4), (7, 8), (129, 130), (0, 48)]:
        assert same(rows.read(start, stop), csr.read(start, stop))
    rows.close()


def test_duplicates_stay_two_entries_in_order():
    matrix = sparse.csc_matrix(([1.0, 2.0, 4.0, 8.0], [1, 1, 0, 1], [0, 2, 4]), shape=(2, 2))
    for budget in (ROOM.bucket_bytes, 8):
        rows = opened(matrix, budget)
        block = rows.read(0, 2)
        rows.close()
        assert block.indptr.tolist() == [0, 1, 4]
        assert block.indices.tolist() == [1, 0, 0, 1]
        assert block.data.tolist() == [4.0, 1.0, 2.0, 8.0]


@pytest.mark.parametrize("budget", [ROOM.bucket_bytes, 8])
@pytest.mark.parametrize("row", [2, -1, 2**32 + 1])
def test_a_cell_that_does_not_exist_is_an_error(budget: int, row: int):
    indices = np.array([1, row], np.int64)
    rows = CscRows(np.array([0, 1, 2]), indices, np.ones(2), (2, 2), "X", budget)
    with pytest.raises(CellsError, match="row index outside its 2 cells"):
        rows.read(0, 2)


def test_a_matrix_of_zeros():
    rows = opened(sparse.csc_matrix((5, 3), dtype=np.float32), budget=1)
    assert rows.read(1, 4).indptr.tolist() == [0, 0, 0, 0]
    rows.close()


def test_the_temporary_file_is_removed(counts: sparse.csr_matrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rows = opened(counts.tocsc(), budget=800)
    rows.read(0, 10)
    rows.close()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_before_the_work(counts: sparse.csr_matrix, monkeypatch: pytest.MonkeyPatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(spool.shutil, "disk_usage", lambda _: usage(100, 100, 0))
    with pytest.raises(CellsError, match=r"0 bytes free.*set TMPDIR"):
        opened(counts.tocsc(), budget=800).read(0, 10)
