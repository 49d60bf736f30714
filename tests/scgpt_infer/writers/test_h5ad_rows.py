"""The first rows of a matrix are copied slice by slice, as they are stored."""

import h5py
import numpy as np
import pytest
from anndata.io import read_elem, write_elem
from scipy import sparse

from scgpt_infer.writers import h5ad_rows
from scgpt_infer.writers.h5ad_rows import copy_rows


@pytest.fixture(autouse=True)
def small_slices(monkeypatch):
    monkeypatch.setattr(h5ad_rows, "_SLICE_BYTES", 640)


@pytest.mark.parametrize("n_rows", [0, 1, 33, 300])
@pytest.mark.parametrize("packed", [{}, {"compression": "gzip", "shuffle": True}])
@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, np.asarray])
def test_the_first_rows_and_their_compression_are_copied(tmp_path, kind, packed, n_rows):
    dense = np.random.default_rng(0).poisson(0.3, (300, 40)).astype(np.float32)
    dense[:, 7:11] = 0  # columns that begin where others end
    with h5py.File(tmp_path / "x.h5", "w") as file:
        write_elem(file, "old", kind(dense), dataset_kwargs=packed)
        copy_rows(file["old"], file, "new", n_rows)
        found = read_elem(file["new"])
        assert dict(file["new"].attrs).keys() == dict(file["old"].attrs).keys()
        old, new = (file[name] if kind is np.asarray else file[name]["data"] for name in ("old", "new"))
        assert new.dtype == old.dtype
        assert not n_rows or new.compression == old.compression
        if kind is not np.asarray:
            assert found.format == kind(dense).format
            assert found.has_sorted_indices == 1
            found = found.toarray()
        assert np.array_equal(found, dense[:n_rows])
