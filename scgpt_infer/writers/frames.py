"""The tables of cells and genes of an output in anndata's layout, HDF5 or zarr: `write_root`.

They are copied from the source's file by slices of rows, or written from names that are asked for by slices; only a
source that has a table and no such file gives it whole. It does not know what else the output holds.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from scgpt_infer.writers.sink import Target
from scgpt_runtime.errors import OutputError

__all__ = ["add_array", "add_group", "copy_frame", "quiet", "source_file", "write_root"]

SLICE = 65_536
"""Rows that are copied at a time, and rows of a chunk in a store."""

_FRAME = {"encoding-type": "dataframe", "encoding-version": "0.2.0"}
_TEXT = {"encoding-type": "string-array", "encoding-version": "0.2.0"}


def write_root(root: Any, target: Target) -> None:
    """Write all that an output without a matrix has before its result: the tables, and groups of nothing.

    Parameters
    ----------
    root
        An open HDF5 file, or zarr group, with nothing in it.
    target
        Says where the tables come from: `Target.source`, `Target.obs`, or names.
    """
    root.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    for name in ("layers", "obsm", "obsp", "uns", "varm", "varp"):
        add_group(root, name, {"encoding-type": "dict", "encoding-version": "0.1.0"})
    _write_frames(root, target)


def _write_frames(root: Any, target: Target) -> None:
    if target.source is not None:
        with source_file(target.source) as source:
            copy_frame(source["obs"], root, "obs", target.n_cells)
            copy_frame(source["var"], root, "var", None)
        return
    if target.obs is None:
        _write_names(root, "obs", target.n_cells, target.names)
    else:
        _write_table(root, "obs", target.obs().iloc[: target.n_cells].copy())
    _write_names(root, "var", len(target.genes), lambda start, stop: list(target.genes[start:stop]))


@contextmanager
def source_file(path: Path) -> Iterator[Any]:
    """The root of an ``.h5ad`` file or ``.zarr`` store."""
    if path.is_file():
        with h5py.File(path, "r") as file:
            yield file
        return
    import zarr

    yield zarr.open_group(path, mode="r")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back what zarr and anndata warn of: text that other programs may not read, and names that are not unique."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def add_group(parent: Any, name: str, attributes: Mapping[str, Any]) -> Any:
    """A new group of an HDF5 file or zarr store."""
    group = parent.create_group(name)
    for key, value in attributes.items():
        group.attrs[key] = _attribute(value, group)
    return group


def add_array(parent: Any, name: str, shape: tuple[int, ...], dtype: Any, attributes: Mapping[str, Any]) -> Any:
    """A new array to be written by slices; ``str`` as dtype: of text."""
    if isinstance(parent, h5py.Group):
        kind = h5py.string_dtype() if dtype is str else dtype
        array = parent.create_dataset(name, shape, kind, track_times=False)
    else:
        chunks = tuple(min(size, SLICE) or 1 for size in shape)
        with quiet():
            array = parent.create_array(name, shape=shape, dtype=dtype, chunks=chunks)
    for key, value in attributes.items():
        array.attrs[key] = _attribute(value, parent)
    return array


def _write_names(root: Any, name: str, n_rows: int, names: Callable[[int, int], list[str]]) -> None:
    group = add_group(root, name, {**_FRAME, "_index": "_index", "column-order": []})
    index = add_array(group, "_index", (n_rows,), str, _TEXT)
    for start in range(0, n_rows, SLICE):
        stop = min(start + SLICE, n_rows)
        index[start:stop] = np.array(names(start, stop), object)


def _write_table(root: Any, name: str, table: Any) -> None:
    """Write a pandas table; text that may be missing becomes categories, since anndata does not write it as text."""
    from anndata.io import write_elem

    kinds = table.dtypes.items()
    text = [one for one, kind in kinds if kind.kind == "O" and (kind == "string" or table[one].hasnans)]
    with quiet():
        write_elem(root, name, table.astype(dict.fromkeys(text, "category")))


def copy_frame(frame: Any, root: Any, name: str, n_rows: int | None) -> None:
    """Copy a table, or its first rows, into a file or store.

    Parameters
    ----------
    frame
        Group, or dataset of an older layout.
    root, name
        Where the copy shall be.
    n_rows
        How many; None: all.
    """
    if _is_plain(frame):
        _copy_group(frame, root, name, n_rows)
        return
    from anndata.io import read_elem  # it knows how anndata wrote tables before 0.8

    with quiet():
        table = read_elem(frame)
    _write_table(root, name, table.iloc[:n_rows])


def _is_plain(frame: Any) -> bool:
    return frame.attrs.get("encoding-type") == "dataframe" and "__categories" not in frame


def _copy_group(old: Any, parent: Any, name: str, n_rows: int | None) -> None:
    new = add_group(parent, name, dict(old.attrs))
    whole = ("categories",) if old.attrs.get("encoding-type") == "categorical" else ()
    for key in old:
        member = old[key]
        if hasattr(member, "dtype"):
            _copy_array(member, new, key, None if key in whole else n_rows)
        else:
            _copy_group(member, new, key, n_rows)


def _copy_array(old: Any, parent: Any, name: str, n_rows: int | None) -> None:
    codecs = () if isinstance(old, h5py.Dataset) else (*old.filters, *old.compressors)
    if any(getattr(codec, "codec_id", "") == "pickle" for codec in codecs):
        raise OutputError(f"{old.name} is pickled, and to unpickle it may run any code. Write the store again.")
    is_text = old.dtype.kind in "OSTU"
    if old.shape == ():
        add_array(parent, name, (), str if is_text else old.dtype, dict(old.attrs))[...] = _rows(old, ())
        return
    shape = (old.shape[0] if n_rows is None else min(n_rows, old.shape[0]), *old.shape[1:])
    new = add_array(parent, name, shape, str if is_text else old.dtype, dict(old.attrs))
    for start in range(0, shape[0], SLICE):
        rows = slice(start, min(start + SLICE, shape[0]))
        new[rows] = _rows(old, rows)


def _rows(array: Any, where: Any) -> Any:
    if h5py.check_string_dtype(array.dtype) is not None and isinstance(array, h5py.Dataset):
        return array.asstr()[where]
    rows = array[where]
    return np.asarray(rows, object) if array.dtype.kind in "TU" else rows


def _attribute(value: Any, group: Any) -> Any:
    """A value of an attribute as HDF5 or, in JSON, zarr takes it."""
    plain = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    if isinstance(plain, list):
        plain = [item.decode() if isinstance(item, bytes) else item for item in plain]
        text = all(isinstance(item, str) for item in plain)
        return np.array(plain, h5py.string_dtype()) if text and isinstance(group, h5py.Group) else plain
    return plain.decode() if isinstance(plain, bytes) else plain
