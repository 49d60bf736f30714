"""Whatever is wrong with a file, the user reads what was found and what to do, and nothing else happens."""

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest
from scipy import sparse

from scgpt_infer.readers import open_cells
from scgpt_infer.spans import grid
from scgpt_runtime.errors import CellsError


@pytest.fixture
def written(cells: ad.AnnData, tmp_path: Path) -> Path:
    cells.layers["other"] = cells.X.copy()
    path = tmp_path / "cells.h5ad"
    cells.write_h5ad(path, compression="gzip")
    return path


def read_all(path: Path, layer: str | None = None) -> int:
    with open_cells(path, layer=layer) as source:
        for name in source.gene_names:
            source.gene_names[name]
        source.cell_names(0, source.n_cells)
        return sum(len(block.data) for block in source.blocks(grid(source.n_cells, 64)))


def test_empty_file(tmp_path: Path):
    path = tmp_path / "empty.h5ad"
    path.touch()
    with pytest.raises(CellsError, match=r"empty \(0 bytes\)"):
        open_cells(path)


def test_not_hdf5(tmp_path: Path):
    path = tmp_path / "text.h5ad"
    path.write_text("cell,gene\n")
    with pytest.raises(CellsError, match="not an HDF5 file"):
        open_cells(path)


def test_folder(tmp_path: Path):
    (tmp_path / "cells.h5ad").mkdir()
    with pytest.raises(CellsError, match="Is a directory"):
        open_cells(tmp_path / "cells.h5ad")


@pytest.mark.parametrize("part", [0.001, 0.02, 0.1, 0.35, 0.5, 0.75, 0.9, 0.99, 0.9999])
def test_truncated(written: Path, part: float):
    whole = written.read_bytes()
    written.write_bytes(whole[: max(9, int(len(whole) * part))])
    with pytest.raises(CellsError, match="copy or download it again"):
        read_all(written)


def test_damage_in_the_middle_names_the_rows(make_cells, tmp_path: Path):
    matrix = sparse.random(20_000, 50, 0.5, format="csr", random_state=0, dtype=np.float32)
    path = tmp_path / "cells.h5ad"
    make_cells(matrix).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        del file["X/data"]
        data = file["X"].create_dataset("data", data=matrix.data, chunks=(500,), compression="gzip")
        chunk = data.id.get_chunk_info_by_coord((int(matrix.indptr[200]) // 500 * 500,))
    with path.open("r+b") as stream:
        stream.seek(chunk.byte_offset + chunk.size // 2)
        stream.write(b"\0" * 64)
    # Row 200 is not among the rows looked at on opening, so that the damage is met in mid-stream.
    with open_cells(path) as source, pytest.raises(CellsError, match=r"Rows 0 to 1,023 of X of .*cells\.h5ad cannot"):
        list(source.blocks(grid(source.n_cells, 1024)))


@pytest.mark.parametrize(("n_cells", "n_genes"), [(0, 5), (5, 0), (0, 0)])
def test_nothing_to_embed(n_cells: int, n_genes: int, tmp_path: Path):
    empty = ad.AnnData(np.zeros((n_cells, n_genes), np.float32))
    empty.write_h5ad(tmp_path / "cells.h5ad")
    for cells in (tmp_path / "cells.h5ad", empty):
        with pytest.raises(CellsError, match=f"{n_cells} cells and {n_genes} genes; there is nothing to embed"):
            open_cells(cells)


def replace(name: str, change: Callable[[np.ndarray], object]) -> Callable[[h5py.File], None]:
    def apply(file: h5py.File) -> None:
        values = file[name][()]
        del file[name]
        file[name] = change(values)

    return apply


def swap(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values[10], values[11] = values[11] + 1, values[10]
    return values


def drop_shape(file: h5py.File) -> None:
    del file["X"].attrs["shape"]


def other_encoding(file: h5py.File) -> None:
    file["X"].attrs["encoding-type"] = "awkward-array"


def drop(name: str) -> Callable[[h5py.File], None]:
    def apply(file: h5py.File) -> None:
        del file[name]

    return apply


DAMAGE = {
    "indptr decreases": (replace("X/indptr", swap), "indptr that decreases"),
    "indptr too short": (replace("X/indptr", lambda v: v[:-1]), "130 entries in indptr; expected 131"),
    "indptr ends early": (replace("X/indptr", lambda v: np.append(v[:-1], v[-1] - 1)), "an indptr from 0 to"),
    "indptr starts late": (replace("X/indptr", lambda v: np.append(1, v[1:])), "an indptr from 1 to"),
    "indptr beyond the values": (replace("X/indptr", lambda v: np.where(v == v[50], 10**12, v)), "indptr"),
    "indptr of floats": (replace("X/indptr", lambda v: v.astype(float)), "expected integers"),
    "fewer indices than values": (replace("X/indices", lambda v: v[:-1]), "indices for"),
    "fewer values than indices": (replace("X/data", lambda v: v[:-3]), "indices for"),
    "values of text": (replace("X/data", lambda v: v.astype("S")), "expected integers, floats or booleans"),
    "complex values": (replace("X/data", lambda v: v.astype(complex)), "expected integers, floats or booleans"),
    "no shape": (drop_shape, "does not say its shape"),
    "no data": (drop("X/data"), "has no data"),
    "unknown encoding": (other_encoding, "the encoding 'awkward-array'"),
    "no X": (drop("X"), "has no X and no layer 'counts'; choose one of: --layer other"),
    "no obs": (drop("obs"), "is not laid out as anndata does it: it holds"),
    "no var": (drop("var"), "is not laid out as anndata does it: it holds"),
    "fewer names than cells": (replace("obs/_index", lambda v: v[:-1]), "130 cells by 40 genes, but 129 cells and 40"),
    "fewer names than genes": (replace("var/_index", lambda v: v[:-1]), "130 cells by 40 genes, but 130 cells and 39"),
    "no index": (drop("obs/_index"), "obs of .* has no index"),
    "a modality file": (lambda file: file.create_group("mod"), "MuData file"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_inconsistent_files(name: str, written: Path):
    damage, message = DAMAGE[name]
    with h5py.File(written, "r+") as file:
        damage(file)
    with pytest.raises(CellsError, match=message):
        read_all(written)


def test_a_layer_can_be_read_where_x_is_broken(written: Path, counts: sparse.csr_matrix):
    with h5py.File(written, "r+") as file:
        del file["X"]
    assert read_all(written, layer="other") == counts.nnz


def test_a_file_without_x_as_anndata_writes_it(cells: ad.AnnData, tmp_path: Path):
    bare = ad.AnnData(obs=cells.obs, var=cells.var)
    bare.write_h5ad(tmp_path / "cells.h5ad")
    for source in (tmp_path / "cells.h5ad", bare):
        with pytest.raises(CellsError, match="has no X and no layer 'counts'; it has no matrix at all"):
            open_cells(source)


def test_one_dimension_is_no_matrix(written: Path):
    with h5py.File(written, "r+") as file:
        del file["X"]
        file["X"] = np.ones(130, np.float32)
    with pytest.raises(CellsError, match="1 dimensions"):
        open_cells(written)


def test_names_that_are_not_utf_8_are_still_names(written: Path):
    with h5py.File(written, "r+") as file:
        codes = file["obs/_index"][()]
        codes[0] = b"caf\xe9"
        del file["obs/_index"]
        file.create_dataset("obs/_index", data=np.array(codes, "S20"))
    with open_cells(written) as source:
        assert source.cell_names(0, 2) == ["caf\ufffd", "cell-1"]
