"""A file that is cut, replaced or removed while it is read ends the reading: zeros must not pass for counts."""

import os
import shutil

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from cell_files import write_zarr
from scgpt_infer.readers import open_cells
from scgpt_runtime.errors import CellsError

SPANS = [range(0, 100), range(100, 200)]


@pytest.fixture
def cells():
    dense = np.random.default_rng(0).poisson(1.0, (200, 50)).astype(np.float32)
    found = ad.AnnData(sparse.csr_matrix(dense))
    found.var_names = [f"G{i}" for i in range(50)]
    return found


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def replaced(path):
    other = path.with_name("other")
    shutil.copy(path, other)
    os.replace(other, path)


def removed(path):
    path.unlink()


@pytest.mark.parametrize("change", [cut, replaced, removed])
@pytest.mark.parametrize("suffix", [".h5ad", ".h5"])
def test_a_file_that_is_changed_while_it_is_read_gives_no_more_cells(cells, tmp_path, change, suffix):
    path = tmp_path / f"cells{suffix}"
    cells.write_h5ad(path)
    with open_cells(path) as source:
        blocks = source.blocks(SPANS)
        next(blocks)
        change(path)
        with pytest.raises(CellsError, match="was changed, cut or removed while it was read"):
            next(blocks)
        with pytest.raises(CellsError):
            source.cell_names(100, 200)


def test_chunks_of_a_store_that_is_removed_are_not_zeros(cells, tmp_path):
    path = write_zarr(cells, tmp_path / "cells.zarr", 3, chunk=1000)
    with open_cells(path) as source:
        blocks = source.blocks(SPANS)
        next(blocks)
        shutil.rmtree(path)
        with pytest.raises(CellsError):
            next(blocks)


def test_a_file_that_stays_as_it_is_may_be_read_and_touched_by_others(cells, tmp_path):
    path = tmp_path / "cells.h5ad"
    cells.write_h5ad(path)
    with open_cells(path) as source:
        (tmp_path / "another file").touch()
        os.utime(path, ns=(0, path.stat().st_mtime_ns))  # read by someone
        assert sum(block.n_cells for block in source.blocks(SPANS)) == 200
