"""Copies of an ``.h5ad`` file: whole, byte for byte; without its matrices; or its first cells only.

It copies what lies in the file and adds nothing. Elements are moved by HDF5 itself where no row is left out.
"""

import shutil
from pathlib import Path
from typing import Any

import h5py

from scgpt_infer.writers.frames import copy_frame
from scgpt_infer.writers.h5ad_rows import copy_rows, is_rows

__all__ = ["copy_first_cells", "copy_whole", "copy_without_matrices"]

_MATRICES = frozenset({"X", "layers", "raw", "obsp", "varp"})
_BY_CELL = frozenset({"layers", "obsm"})


def copy_whole(source: Path, copy: Path) -> None:
    """Copy every byte."""
    shutil.copyfile(source, copy)


def copy_without_matrices(source: Path, copy: Path) -> None:
    """Copy everything but ``X``, ``layers``, ``raw``, ``obsp`` and ``varp``."""
    with h5py.File(source, "r") as old, h5py.File(copy, "w") as new:
        _copy_attributes(old, new)
        for name in old:
            if name not in _MATRICES:
                old.copy(name, new)


def copy_first_cells(source: Path, copy: Path, n_cells: int, *, matrices: bool) -> None:
    """Copy the first cells: ``obs`` and all that is aligned to it is cut, the rest is copied."""
    from anndata import settings

    # What may lack values stays so; anndata writes such text only when told to.
    nullable = settings.override(allow_write_nullable_strings=True)
    with h5py.File(source, "r") as old, h5py.File(copy, "w") as new, nullable:
        _copy_attributes(old, new)
        for name in old:
            if name in _MATRICES and not matrices:
                continue
            if name in ("obs", "X"):
                _copy_element(old[name], new, name, n_cells)
            elif name in _BY_CELL:
                _copy_group(old, new, name, n_cells)
            elif name == "obsp":
                _copy_group(old, new, name, n_cells, square=True)
            elif name == "raw" and isinstance(old[name], h5py.Group):
                _copy_raw(old[name], new, n_cells)
            else:
                old.copy(name, new)


def _copy_group(old: Any, new: Any, name: str, n_cells: int, *, square: bool = False) -> None:
    from anndata.io import write_elem

    write_elem(new, name, {})
    for key in old[name]:
        if square:
            write_elem(new[name], key, _first_rows(old[name][key], n_cells)[:, :n_cells])
        else:
            _copy_element(old[name][key], new[name], key, n_cells)


def _copy_raw(old: Any, new: Any, n_cells: int) -> None:
    raw = new.create_group("raw")
    _copy_attributes(old, raw)
    for name in old:
        if name == "X":
            _copy_element(old[name], raw, name, n_cells)
        else:
            old.copy(name, raw)


def _copy_element(old: Any, parent: Any, name: str, n_cells: int) -> None:
    """Copy the first rows, by slices where the element is a table or a matrix."""
    from anndata.io import write_elem

    if is_rows(old):
        copy_rows(old, parent, name, n_cells)
    elif old.attrs.get("encoding-type", "") == "dataframe":
        copy_frame(old, parent, name, n_cells)
    else:
        write_elem(parent, name, _first_rows(old, n_cells))


def _first_rows(element: Any, n_cells: int) -> Any:
    from anndata.io import read_elem, sparse_dataset

    kind = element.attrs.get("encoding-type", "")
    if kind in ("csr_matrix", "csc_matrix"):
        return sparse_dataset(element)[:n_cells]
    if isinstance(element, h5py.Dataset):
        return element[:n_cells]
    value = read_elem(element)
    return value.iloc[:n_cells] if kind == "dataframe" else value[:n_cells]


def _copy_attributes(old: Any, new: Any) -> None:
    for name, value in old.attrs.items():
        new.attrs[name] = value
