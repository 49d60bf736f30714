import numpy as np
import pytest
from scipy import sparse

from scgpt_infer.readers import regroup
from scgpt_infer.readers.regroup import RegroupedRows
from scgpt_infer.readers.room import ROOM


# In memory at once; in a few buckets on disk; in buckets of single rows, some of which exceed the budget.
@pytest.mark.parametrize("budget", [ROOM.bucket_bytes, 800, 8])
@pytest.mark.parametrize("slab", [1 << 22, 37])
def test_entries_in_any_order_give_the_rows(budget: int, slab: int, counts: sparse.csr_matrix, monkeypatch):
    monkeypatch.setattr(regroup, "SLAB_ENTRIES", slab)
    entries = counts.tocoo()
    order = np.random.default_rng(1).permutation(entries.nnz)
    arrays = (entries.row[order], entries.col[order], entries.data[order])
    rows = RegroupedRows(*arrays, counts.shape, "X", budget)
    for start, stop in [(0, 130), (0, 48), (48, 96), (129, 130), (3, 4)]:
        block = rows.read(start, stop)
        found = sparse.csr_matrix((block.data, block.indices, block.indptr), (stop - start, counts.shape[1]))
        assert (found != counts[start:stop]).nnz == 0
        assert block.indptr.tolist() == (counts.indptr[start : stop + 1] - counts.indptr[start]).tolist()
    rows.close()


def test_entries_of_one_row_keep_their_order():
    for budget in (ROOM.bucket_bytes, 8):
        rows = RegroupedRows(np.array([1, 0, 1, 1]), np.array([2, 1, 0, 2]), np.arange(4), (2, 3), "X", budget)
        block = rows.read(0, 2)
        rows.close()
        assert block.indices.tolist() == [1, 2, 0, 2]
        assert block.data.tolist() == [1, 0, 2, 3]
