"""Files of cells as other programs write them, for tests of what reads them."""

import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import anndata as ad
import h5py
import mudata
import numpy as np
import zarr
from scipy import sparse


def write_zarr(cells: ad.AnnData, path: Path, version: int, chunk: int = 0, shard: int | None = None) -> Path:
    """A store by anndata; with `chunk`, its sparse matrices in chunks (and shards) of so many values."""
    with warnings.catch_warnings(), ad.settings.override(zarr_write_format=version):
        warnings.simplefilter("ignore")
        cells.write_zarr(path)
        if chunk:
            store = zarr.open_group(path, mode="r+", use_consolidated=False)
            groups = [store["X"], *(group for _, group in store["layers"].groups())]
            for group in [group for group in groups if isinstance(group, zarr.Group)]:
                for name in ("data", "indices"):
                    shards = None if shard is None else (shard,)
                    group.create_array(name, data=group[name][:], chunks=(chunk,), shards=shards, overwrite=True)
            zarr.consolidate_metadata(path)
    return path


def zipped(folder: Path, path: Path, inside: str = "") -> Path:
    """A zip of a folder, in a folder of its own where `inside` names one."""
    with zipfile.ZipFile(path, "w") as packed:
        for file in sorted(folder.rglob("*")):
            packed.write(file, Path(inside) / file.relative_to(folder))
    return path


def write_h5mu(modalities: dict[str, ad.AnnData], path: Path, **columns: str) -> Path:
    """A file by mudata, in zarr where the suffix says so.

    Columns are of the file's own obs alone; the value of a cell is the text given and the cell's name.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        both = mudata.MuData(modalities)
        for name, text in columns.items():
            both.obs[name] = [f"{text} {cell}" for cell in both.obs_names]
        if path.suffix == ".zarr":
            both.write_zarr(path)
        else:
            both.write(path)
    return path


def write_tenx(
    path: Path,
    counts: sparse.csr_matrix,
    ids: Sequence[str],
    names: Sequence[str],
    barcodes: Sequence[str],
    *,
    types: Sequence[str] | None = None,
    genomes: Sequence[str] | None = None,
    group: str = "matrix",
) -> Path:
    """A matrix as Cell Ranger 3 and later writes it, or, in a group of another name, as Cell Ranger 2 did."""
    packed = {"chunks": (64,), "maxshape": (None,), "compression": "gzip"}
    with h5py.File(path, "a") as file:
        matrix = file.create_group(group)
        matrix["barcodes"] = np.array(barcodes, "S")
        # As 10x has it: genes by cells, by columns, which is cells by genes, by rows.
        matrix.create_dataset("data", data=counts.data.astype(np.int32), shuffle=True, **packed)
        matrix.create_dataset("indices", data=counts.indices.astype(np.int64), **packed)
        matrix["indptr"] = counts.indptr.astype(np.int64)
        matrix["shape"] = np.array(counts.shape[::-1], np.int32)
        if group != "matrix":
            matrix["genes"], matrix["gene_names"] = np.array(ids, "S"), np.array(names, "S")
            return path
        features = matrix.create_group("features")
        features["id"], features["name"] = np.array(ids, "S"), np.array(names, "S")
        if types is not None:
            features["feature_type"] = np.array(types, "S")
        if genomes is not None:
            features["genome"] = np.array(genomes, "S")
            features["_all_tag_keys"] = np.array(["genome"], "S")
    return path
