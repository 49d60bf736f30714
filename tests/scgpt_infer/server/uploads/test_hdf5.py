"""HDF5 files that strangers send: each trick is refused with 422, by a process of its own, with the reason."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from cell_files import write_tenx
from scgpt_infer.server.refusals import Unprocessable
from scgpt_infer.server.uploads import Checked, Limits, checked
from tests.scgpt_infer.server.uploads.hostile import (
    BYTES,
    LINKS,
    SHAPES,
    STORAGE,
    TYPES,
    Tamper,
    endless_heap,
    external_link,
)

N_CELLS, N_GENES = 4, 10
COUNTS = sparse.csr_matrix(np.random.default_rng(0).poisson(1, (N_CELLS, N_GENES)).astype(np.float32))
GENES = [f"GENE{i}" for i in range(N_GENES)]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    obs = pd.DataFrame({"cell_type": pd.Categorical(["T", "B"] * 2)}, [f"cell-{i}" for i in range(N_CELLS)])
    cells = ad.AnnData(COUNTS, obs, pd.DataFrame(index=GENES), uns={"kept": 1}, obsm={"pca": np.zeros((N_CELLS, 2))})
    path = tmp_path_factory.mktemp("honest") / "cells.h5ad"
    cells.write_h5ad(path, compression="gzip")
    return path


@pytest.fixture
def path(honest: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(honest, tmp_path / "upload.bin"))


def refused(path: Path, limits: Limits | None = None, name: str = "pbmc.h5ad") -> str:
    with pytest.raises(Unprocessable) as caught:
        asyncio.run(checked(path, name, limits))
    assert caught.value.status == 422
    assert [one.name for one in path.parent.iterdir()] == [path.name]  # nothing is left of the look
    message = str(caught.value)
    assert str(path.parent) not in message
    return message


def test_an_honest_file_passes(path: Path):
    assert asyncio.run(checked(path, "pbmc.h5ad")) == Checked(".h5ad", N_CELLS, N_GENES)


def test_a_matrix_of_cell_ranger_passes(tmp_path: Path):
    ids, barcodes = [f"ENSG{i:011d}" for i in range(N_GENES)], [f"AAAC{i}-1" for i in range(N_CELLS)]
    path = write_tenx(tmp_path / "a.h5", COUNTS, ids, GENES, barcodes, types=["Gene Expression"] * N_GENES)
    assert asyncio.run(checked(path, "filtered.H5")) == Checked(".h5", N_CELLS, N_GENES)
    with h5py.File(path, "r+") as file:
        external_link(file["matrix"].create_group("uns").file.require_group("/"))
    assert "filtered.H5 has a link into another file at /uns/other" in refused(path, name="filtered.H5")


def test_words_of_categories_by_reference_pass(path: Path):
    with h5py.File(path, "r+") as file:  # as anndata wrote them before 0.8
        words, codes = file["obs/cell_type/categories"][:], file["obs/cell_type/codes"][:]
        del file["obs/cell_type"]
        file["obs/__categories/cell_type"] = words
        file["obs/cell_type"] = codes
        file["obs/cell_type"].attrs["categories"] = file["obs/__categories/cell_type"].ref
    assert asyncio.run(checked(path, "pbmc.h5ad")).n_cells == N_CELLS


@pytest.mark.parametrize(("tamper", "why"), (LINKS | STORAGE | TYPES | SHAPES).items())
def test_refused(path: Path, tamper: Tamper, why: str):
    with h5py.File(path, "r+") as file:
        tamper(file)
    message = refused(path)
    assert message.startswith(("pbmc.h5ad", "/", "obs", "var", "X", "The attribute"))
    assert "pbmc.h5ad" in message
    assert why in message


@pytest.mark.parametrize(("tamper", "why"), BYTES.items())
def test_bytes_that_no_library_writes(path: Path, tamper: Callable[[Path], object], why: str):
    tamper(path)
    assert why in refused(path)


def test_more_objects_cells_or_genes_than_are_taken(path: Path):
    assert "more than 10 groups and arrays" in refused(path, Limits(objects=10))
    assert "has 4 cells; expected at most 3" in refused(path, Limits(cells=3))
    assert "has 10 genes; expected at most 9" in refused(path, Limits(genes=9))


def test_names_that_take_too_much_memory(path: Path):
    with h5py.File(path, "r+") as file:
        del file["var/_index"]
        file.create_dataset("var/_index", (N_GENES * 1000,), "S60000", chunks=(100,), compression="gzip")
        file["X"].attrs["shape"] = (N_CELLS, N_GENES * 1000)
    assert "takes more memory than 500.0 MB" in refused(path, Limits(memory_bytes=500_000_000, unpacked_floor=2**31))


def test_what_makes_the_library_hang_is_ended(path: Path):
    endless_heap(path)
    message = refused(path, Limits(seconds=1, bytes_per_second=1e12))
    assert message.startswith(("To look at this file took longer than 1 s", "pbmc.h5ad cannot be read"))
