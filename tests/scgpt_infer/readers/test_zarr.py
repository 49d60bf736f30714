"""zarr stores: texts of every kind, stores that are not whole, and what is no store at all."""

import json
import pickle
import shutil
import sys
import tracemalloc
from itertools import pairwise
from pathlib import Path

import anndata as ad
import numcodecs
import numcodecs.pickles
import numpy as np
import pandas as pd
import pytest
import zarr
from scipy import sparse

from cell_files import write_zarr, zipped
from scgpt_infer.readers import open_cells
from scgpt_infer.spans import grid
from scgpt_runtime.errors import CellsError, MissingDependencyError


def read_all(path: Path) -> int:
    with open_cells(path) as source:
        for name in source.gene_names:
            source.gene_names[name]
        source.cell_names(0, source.n_cells)
        return sum(len(block.data) for block in source.blocks(grid(source.n_cells, 64)))


@pytest.mark.parametrize("version", [2, 3])
def test_columns_of_cells_are_text_whatever_they_are_stored_as(version: int, cells: ad.AnnData, tmp_path: Path):
    n = cells.n_obs // 2
    cells.obs["number"] = np.arange(2 * n)
    cells.obs["share"] = [0.5, np.nan] * n
    cells.obs["nullable"] = pd.array([1, None] * n, "Int64")
    cells.obs["flag"] = [True, False] * n
    cells.obs["missing"] = pd.Categorical(["x", None] * n)
    cells.obs["text"] = [f"é{i}" for i in range(2 * n)]
    path = write_zarr(cells, tmp_path / "cells.zarr", version)
    store = zarr.open_group(path, mode="r+", use_consolidated=False)
    if version == 2:  # of version 3 zarr says that fixed widths have no specification yet
        store["obs"].create_array("fixed", data=np.array(["ab", "c"] * n))
        zarr.consolidate_metadata(path)
    with open_cells(path) as source, open_cells(cells) as memory:
        expected = (*memory.cell_columns, "fixed") if version == 2 else memory.cell_columns
        assert source.cell_columns == expected
        for name in memory.cell_columns:
            assert source.cell_column(name).tolist() == memory.cell_column(name).tolist()
        assert source.cell_column("share")[:2].tolist() == ["0.5", ""]
        assert source.cell_column("nullable")[:2].tolist() == ["1", ""]
        assert source.cell_column("missing")[:2].tolist() == ["x", ""]
        if version == 2:
            assert source.cell_column("fixed")[:3].tolist() == ["ab", "c", "ab"]
        with pytest.raises(CellsError, match=r"obs of .*cells\.zarr has no column 'batch'; it has cell_type, number"):
            source.cell_column("batch")


def test_shared_categories_of_anndata_0_7(cells: ad.AnnData, tmp_path: Path):
    path = write_zarr(cells, tmp_path / "cells.zarr", 2)
    obs = zarr.open_group(path, mode="r+", use_consolidated=False)["obs"]
    obs.create_array("__categories/cluster", data=np.array(["first", "second"]))
    obs.create_array("cluster", data=np.array([1, 0] * 65, np.int8)).attrs["categories"] = "__categories/cluster"
    (path / ".zmetadata").unlink()
    with open_cells(path) as source:
        assert source.cell_columns == ("cell_type", "cluster")
        assert source.cell_column("cluster")[:2].tolist() == ["second", "first"]


@pytest.mark.parametrize("shard", [None, 1000])
def test_memory_does_not_grow_with_the_store(shard: int | None, make_cells, tmp_path: Path):
    matrix = sparse.random(20_000, 200, 0.5, format="csr", random_state=0, dtype=np.float32)
    path = write_zarr(make_cells(matrix), tmp_path / "cells.zarr", 3, 20_000, shard and 200_000)
    with open_cells(path) as source:  # zarr's own imports and threads are not counted
        source.sample(10)
    tracemalloc.start()
    with open_cells(path) as source:
        n_values = sum(len(block.data) for block in source.blocks(grid(source.n_cells, 256)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n_values == matrix.nnz
    assert peak < matrix.data.nbytes / 2  # 8 MB of values; the sample of 1,000 rows is what takes most


def test_a_chunk_is_read_once_by_neighbouring_ranges(cells: ad.AnnData, tmp_path: Path, monkeypatch):
    path = write_zarr(cells, tmp_path / "cells.zarr", 2, chunk=200)
    with open_cells(path) as source:
        read = []
        original = zarr.Array.__getitem__
        monkeypatch.setattr(
            zarr.Array, "__getitem__", lambda s, where: (read.append((s.name, where)), original(s, where))[1]
        )
        list(source.blocks(grid(source.n_cells, 10)))
    ranges = [where for name, where in read if name == "/X/data"]
    assert [where.start for where in ranges] == sorted({where.start for where in ranges})
    assert all(later.start >= earlier.stop for earlier, later in pairwise(ranges))


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("name", ["X/data", "X/indices", "obs/_index"])
def test_a_missing_chunk_is_an_error_and_not_zeros(name: str, version: int, cells: ad.AnnData, tmp_path: Path):
    path = write_zarr(cells, tmp_path / "cells.zarr", version, chunk=200)
    chunk = {2: path / name / "0", 3: path / name / "c" / "0"}[version]
    chunk.unlink()
    with pytest.raises(CellsError, match=rf"a chunk of /{name} is not in the store.*copy or download it again"):
        read_all(path)


@pytest.mark.parametrize("shard", [128, 256, 512, 1920])
def test_a_missing_shard_is_an_error(shard: int, cells: ad.AnnData, tmp_path: Path):
    path = write_zarr(cells, tmp_path / "cells.zarr", 3, chunk=128, shard=shard)
    (path / "X/indices/c/0").unlink()
    with pytest.raises(CellsError, match="a chunk of /X/indices is not in the store"):
        read_all(path)


def test_a_category_that_all_cells_have_needs_no_chunk(cells: ad.AnnData, tmp_path: Path):
    cells.obs["batch"] = pd.Categorical(["one"] * cells.n_obs)  # codes of zeros: zarr 3 stores no chunk of them
    path = write_zarr(cells, tmp_path / "cells.zarr", 3)
    assert not (path / "obs/batch/codes/c").exists()
    with open_cells(path) as source:
        assert set(source.cell_column("batch")) == {"one"}


@pytest.mark.parametrize("version", [2, 3])
def test_a_damaged_chunk_is_said_to_be_damaged(version: int, cells: ad.AnnData, tmp_path: Path):
    path = write_zarr(cells, tmp_path / "cells.zarr", version, chunk=200)
    chunk = {2: path / "X/data/0", 3: path / "X/data/c/0"}[version]
    chunk.write_bytes(chunk.read_bytes()[:7])
    with pytest.raises(CellsError, match=r"X of .* cannot be read: .*copy or download it again"):
        read_all(path)


@pytest.mark.parametrize("part", [0.01, 0.5, 0.99])
def test_a_truncated_zip(part: float, cells: ad.AnnData, tmp_path: Path):
    path = zipped(write_zarr(cells, tmp_path / "c", 2), tmp_path / "c.zarr.zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(CellsError, match=r"[Cc]opy or download it again"):
        read_all(path)


@pytest.mark.parametrize("version", [2, 3])
def test_a_folder_without_metadata_is_no_store(version: int, cells: ad.AnnData, tmp_path: Path):
    path = write_zarr(cells, tmp_path / "cells.zarr", version)
    (path / {2: ".zgroup", 3: "zarr.json"}[version]).unlink()
    with pytest.raises(CellsError, match=r"no zarr group: it has neither of zarr\.json and \.zgroup"):
        open_cells(path)


def test_metadata_that_is_no_json(cells: ad.AnnData, tmp_path: Path):
    path = write_zarr(cells, tmp_path / "cells.zarr", 3)
    (path / "zarr.json").write_text('{"zarr_format": 3, ')
    with pytest.raises(CellsError, match=r"cells\.zarr cannot be read"):
        open_cells(path)


def test_other_stores_are_named_by_what_they_hold(tmp_path: Path):
    store = zarr.open_group(tmp_path / "image.zarr", mode="w", zarr_format=2)
    store.create_group("images")
    store.create_group("tables")
    with pytest.raises(CellsError, match="it holds images, tables; expected X, obs and var"):
        open_cells(tmp_path / "image.zarr")
    zarr.open_array(tmp_path / "array.zarr", mode="w", shape=(3,), dtype="f4", zarr_format=3)
    with pytest.raises(CellsError, match=r"array\.zarr"):
        open_cells(tmp_path / "array.zarr")
    (tmp_path / "text.zarr").write_text("no store")
    with pytest.raises(CellsError, match="neither a folder nor a whole zip file"):
        open_cells(tmp_path / "text.zarr")


def test_a_zip_of_something_else(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("text")
    with pytest.raises(CellsError, match="a zip without a zarr group"):
        open_cells(zipped(tmp_path / "folder", tmp_path / "c.zarr.zip"))


@pytest.mark.parametrize("place", ["filters", "compressor"])
def test_no_code_runs_from_a_store(place: str, cells: ad.AnnData, tmp_path: Path, monkeypatch):
    """numcodecs has a codec that unpickles, which runs what a file says; older ones do so unasked."""
    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    path = write_zarr(cells, tmp_path / "cells.zarr", 2)
    (path / ".zmetadata").unlink()
    array = path / "obs" / "_index"
    described = json.loads((array / ".zarray").read_text())
    pickled, text = {"id": "pickle", "protocol": 5}, {"id": "vlen-utf8"}
    described |= {"filters": [text, pickled] if place == "filters" else [text], "dtype": "|O", "fill_value": None}
    described["compressor"] = pickled if place == "compressor" else None
    (array / ".zarray").write_text(json.dumps(described))
    (array / "0").write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    with pytest.raises(CellsError, match="cannot be read: /obs/_index is pickled"):
        read_all(path)
    assert not (tmp_path / "ran").exists()


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_a_store_of_one_modality_refuses_the_choice(cells: ad.AnnData, tmp_path: Path):
    path = write_zarr(cells, tmp_path / "cells.zarr", 3)
    with pytest.raises(CellsError, match=r"cells\.zarr has no modalities, and 'rna' was asked for"):
        open_cells(path, modality="rna")


def test_without_zarr_the_line_to_install_it_is_given(cells: ad.AnnData, tmp_path: Path, monkeypatch):
    path = write_zarr(cells, tmp_path / "cells.zarr", 3)
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "scgpt-infer\[zarr\]"'):
        open_cells(path)


def test_closing_frees_the_zip(cells: ad.AnnData, tmp_path: Path):
    path = zipped(write_zarr(cells, tmp_path / "c", 2), tmp_path / "c.zarr.zip")
    with open_cells(path) as source:
        source.sample()
    shutil.move(path, tmp_path / "moved.zarr.zip")
    assert read_all(tmp_path / "moved.zarr.zip") == cells.X.nnz
