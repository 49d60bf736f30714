"""Files of cells for a benchmark, one for each way to store them.

In: generated cells, or a file of real ones, which is repeated. Out: paths. All cells are in memory meanwhile.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from benchmarks.at_scale.generated import Generated

__all__ = ["STORED", "repeated", "table_of", "written"]


@dataclass(frozen=True, slots=True)
class Way:
    """A suffix, and how cells are written under it."""

    suffix: str
    write: Callable[[AnnData, Path], Any]


STORED = {
    "uncompressed": Way(".h5ad", lambda cells, path: cells.write_h5ad(path)),
    "gzip": Way(".h5ad", lambda cells, path: cells.write_h5ad(path, compression="gzip")),
    "zarr": Way(".zarr", lambda cells, path: _zarr(cells, path)),
}
"""Each as anndata writes it when it is told nothing more, zarr in its version 3, sharded."""


def repeated(path: Path, n_cells: int) -> AnnData:
    """Exactly so many cells: those of an ``.h5ad`` of raw counts, again and again."""
    once = anndata.read_h5ad(path)
    counts = sparse.csr_matrix(once.X)
    times = -(-n_cells // counts.shape[0])
    return _named(sparse.vstack([counts] * times, format="csr")[:n_cells], list(once.var_names))


def table_of(cells: Generated) -> AnnData:
    """All generated cells, in memory."""
    block = next(cells.blocks([range(cells.n_cells)]))
    counts = sparse.csr_matrix((block.data, block.indices, block.indptr), (cells.n_cells, cells.n_genes))
    return _named(counts, list(cells.gene_names["index"]))


def written(cells: AnnData, way: str, folder: Path) -> Path:
    """The file that holds the cells in one of the ways `STORED`; one that is there is taken as it is."""
    path = folder / f"{way}.{cells.n_obs}{STORED[way].suffix}"
    if not path.exists():
        STORED[way].write(cells, path)
    return path


def _zarr(cells: AnnData, path: Path) -> None:
    with anndata.settings.override(zarr_write_format=3, auto_shard_zarr_v3=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # consolidated metadata is no part of version 3 yet
        cells.write_zarr(path)


def _named(counts: sparse.csr_matrix, genes: list[str]) -> AnnData:
    names = [f"cell{row}" for row in range(counts.shape[0])]
    return AnnData(counts.astype(np.float32), pd.DataFrame(index=names), pd.DataFrame(index=genes))
