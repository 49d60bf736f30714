"""The same cells give the same JSON, byte for byte, from every format that cells come in."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.io
from scipy import sparse

from cell_files import write_h5mu, write_tenx, write_zarr
from scgpt_infer import AnnotateOptions, EmbedOptions, annotate_file, demo

Writer = Callable[[ad.AnnData, Path], Path]


def tenx(cells: ad.AnnData, folder: Path) -> Path:
    ids = [f"id-{name}" for name in cells.var_names]
    return write_tenx(folder / "c.h5", sparse.csr_matrix(cells.X), ids, list(cells.var_names), list(cells.obs_names))


def mtx(cells: ad.AnnData, folder: Path) -> Path:
    matrix = folder / "filtered_feature_bc_matrix"
    matrix.mkdir()
    with gzip.open(matrix / "matrix.mtx.gz", "wb") as file:
        scipy.io.mmwrite(file, sparse.csc_matrix(cells.X.T.astype(int)))
    lines = [f"id-{name}\t{name}\tGene Expression\n" for name in cells.var_names]
    (matrix / "features.tsv.gz").write_bytes(gzip.compress("".join(lines).encode()))
    (matrix / "barcodes.tsv.gz").write_bytes(gzip.compress("".join(f"{n}\n" for n in cells.obs_names).encode()))
    return matrix


def table(cells: ad.AnnData) -> pd.DataFrame:
    return pd.DataFrame(cells.X.toarray().astype(int), index=list(cells.obs_names), columns=list(cells.var_names))


def saved(table: pd.DataFrame, path: Path, **how: str) -> Path:
    table.to_csv(path, **how)
    return path


def h5ad(cells: ad.AnnData, folder: Path) -> Path:
    cells.write_h5ad(folder / "c.h5ad")
    return folder / "c.h5ad"


FORMATS: dict[str, Writer] = {
    "csv": lambda cells, folder: saved(table(cells), folder / "c.csv"),
    "tsv.gz, genes in rows": lambda cells, folder: saved(table(cells).T, folder / "c.tsv.gz", sep="\t"),
    "10x h5": tenx,
    "mtx": mtx,
    "zarr 2": lambda cells, folder: write_zarr(cells, folder / "c.zarr", 2),
    "zarr 3": lambda cells, folder: write_zarr(cells, folder / "c.zarr", 3),
    "h5mu": lambda cells, folder: write_h5mu({"rna": cells}, folder / "c.h5mu"),
}


@pytest.fixture(scope="module")
def cells() -> ad.AnnData:
    found = ad.read_h5ad(demo.CELLS)[:48].copy()
    found.X = sparse.csr_matrix(np.asarray(found.X.todense()) * (np.arange(48) != 7)[:, None])  # one cell is empty
    return found


def asked(path: Path, output: Path) -> bytes:
    options = EmbedOptions(provider="cpu", precision="fp32")
    annotate_file(path, output, "demo", options, AnnotateOptions(with_vectors=True))
    return output.read_bytes()


@pytest.fixture(scope="module")
def expected(cells: ad.AnnData, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("expected")
    return asked(h5ad(cells, folder), folder / "types.json")


@pytest.mark.parametrize("name", FORMATS)
def test_the_json_is_the_same_byte_for_byte(name: str, cells: ad.AnnData, expected: bytes, tmp_path: Path):
    path = FORMATS[name](cells, tmp_path)
    assert asked(path, tmp_path / "types.json") == expected


def test_and_it_tells_each_cell(cells: ad.AnnData, expected: bytes):
    told = json.loads(expected)
    assert [cell["cell"] for cell in told["cells"]] == list(cells.obs_names)
    assert told["cells"][7]["error"] == "all values are zero"
    assert told["cells"][7]["label"] is None
    assert len(told["cells"][0]["embedding"]) == 64
