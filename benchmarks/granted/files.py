"""Files of cells that are large to hold and quick to write: dense, dense and compressed, or stored by genes.

In: a path, names of genes that a model knows. Out: a file that anndata reads. Nothing of its size is ever in memory,
and values repeat: only how many there are, and how they are stored, matters to what is measured.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

__all__ = ["KINDS", "write"]

KINDS = ("dense", "gzip", "csc")
"""Dense without zeros and contiguous; dense, a tenth not zero, in compressed chunks; sparse and stored by genes."""

BAND = 256
SHARE = 0.1
WIDE = 1000


def write(kind: str, path: Path, n_cells: int, genes: Sequence[str], values: int = 0) -> None:
    """Write a file of cells.

    Parameters
    ----------
    kind
        One of `KINDS`.
    path
        The file.
    n_cells
        Number of cells.
    genes
        Names of the genes.
    values
        Values that a file stored by genes has.
    """
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        if kind == "csc":
            _by_genes(file, rng, (n_cells, len(genes)), values)
        elif kind == "gzip":
            _compressed(file, rng, (n_cells, len(genes)))
        else:
            _contiguous(file, rng, (n_cells, len(genes)))
        _names(file, "obs", [f"cell-{number}" for number in range(n_cells)])
        _names(file, "var", genes)


def _contiguous(file: h5py.File, rng: np.random.Generator, shape: tuple[int, int]) -> None:
    matrix = file.create_dataset("X", shape, "f4")
    _encoded(matrix, "array", "0.2.0")
    band = rng.integers(1, 30, (BAND, shape[1])).astype(np.float32)
    for number, start in enumerate(range(0, shape[0], BAND)):
        matrix[start : start + BAND] = np.roll(band, 7 * number, axis=1)[: shape[0] - start]


def _compressed(file: h5py.File, rng: np.random.Generator, shape: tuple[int, int]) -> None:
    """The chunks of one band are deflated once, and stand in all bands, each time beside others."""
    matrix = file.create_dataset("X", shape, "f4", chunks=(BAND, WIDE), compression="gzip")
    _encoded(matrix, "array", "0.2.0")
    beside = range(0, shape[1], WIDE)
    chunks = [zlib.compress(_sparse(rng, (BAND, WIDE)).tobytes(), 4) for _ in beside]
    for number, start in enumerate(range(0, shape[0], BAND)):
        for place, column in enumerate(beside):
            matrix.id.write_direct_chunk((start, column), chunks[(number + place) % len(chunks)])


def _by_genes(file: h5py.File, rng: np.random.Generator, shape: tuple[int, int], values: int) -> None:
    group = file.create_group("X")
    _encoded(group, "csc_matrix", "0.1.0")
    group.attrs["shape"] = shape
    indices, data = (group.create_dataset(name, (values,), kind) for name, kind in (("indices", "i4"), ("data", "f4")))
    indptr = np.linspace(0, values, shape[1] + 1).astype(np.int64)
    group.create_dataset("indptr", data=indptr)
    step = 100
    for low in range(0, shape[1], step):
        ends = indptr[low : low + step + 1]
        rows = [np.sort(rng.choice(shape[0], count, replace=False)) for count in np.diff(ends)]
        indices[ends[0] : ends[-1]] = np.concatenate(rows).astype(np.int32)
        data[ends[0] : ends[-1]] = rng.integers(1, 30, ends[-1] - ends[0]).astype(np.float32)


def _sparse(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    counts = rng.integers(1, 30, shape).astype(np.float32)
    counts[rng.random(shape) >= SHARE] = 0
    return counts


def _names(file: h5py.File, table: str, names: Sequence[str]) -> None:
    group = file.create_group(table)
    _encoded(group, "dataframe", "0.2.0")
    group.attrs["_index"] = "_index"
    group.attrs["column-order"] = np.empty(0, "S1")
    _encoded(group.create_dataset("_index", data=list(names), dtype=h5py.string_dtype()), "string-array", "0.2.0")


def _encoded(node: h5py.Group | h5py.Dataset, kind: str, version: str) -> None:
    node.attrs.update({"encoding-type": kind, "encoding-version": version})
