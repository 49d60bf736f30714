"""What a matrix is stored as, recognised once: an group or array of HDF5 or zarr, or an object of AnnData.

An element comes in, `Rows` come out. Knows every encoding that anndata has written for a matrix,
and refuses the others by name.
"""

from typing import Any

import h5py
import numpy as np
from scipy import sparse

from scgpt_infer.readers.chunks import inflated
from scgpt_infer.readers.csc import CscRows
from scgpt_infer.readers.damage import reading
from scgpt_infer.readers.matrix import CsrRows, DenseRows, Rows, Sliceable
from scgpt_infer.readers.nodes import Group, ZarrArray, ZarrGroup, is_array
from scgpt_infer.readers.room import ROOM, ReadingRoom
from scgpt_runtime.errors import CellsError
from scgpt_runtime.machine import cores

__all__ = ["open_rows"]


def open_rows(
    element: Any, where: str, shape: tuple[int, int], threads: int | None = None, room: ReadingRoom = ROOM
) -> Rows:
    """Open a matrix for reading by rows.

    Parameters
    ----------
    element
        Group or array of HDF5 or zarr, backed or scipy sparse matrix, or array.
    where
        Name of the matrix in messages.
    shape
        The cells and genes that are named, which the matrix must have.
    threads
        Threads to inflate a gzip-compressed dataset with; None takes the cores that this process may use.
    room
        Memory that reading may take.

    Raises
    ------
    CellsError
        If the matrix is of no known kind, damaged, or of another shape.
    """
    # A sparse matrix of a backed AnnData stands for the group of its file.
    element = getattr(element, "group", element)
    threads = cores().usable if threads is None else threads
    with reading(where):
        if isinstance(element, (h5py.Group, ZarrGroup)):
            rows = _stored_sparse(element, where, threads, room)
        elif isinstance(element, (h5py.Dataset, ZarrArray)):
            rows = DenseRows(_unpacked(_plain(element, where), threads, room), where, room)
        elif isinstance(element, (sparse.csr_matrix, sparse.csr_array)):
            rows = _of_format("csr", element, element.shape, where, room)
        elif isinstance(element, (sparse.csc_matrix, sparse.csc_array)):
            rows = _of_format("csc", element, element.shape, where, room)
        elif isinstance(element, np.ndarray) and not isinstance(element, np.ma.MaskedArray):
            rows = DenseRows(np.asarray(element), where, room)
        else:
            raise CellsError(_unknown(element, where))
    if rows.shape != shape:
        raise CellsError(
            f"{where} is {rows.shape[0]:,} cells by {rows.shape[1]:,} genes, but {shape[0]:,} cells and {shape[1]:,} "
            "genes are named (obs, var). The file was not written whole, or by a faulty program: write it again."
        )
    return rows


def _stored_sparse(group: Group, where: str, threads: int, room: ReadingRoom) -> Rows:
    kind = _text(group.attrs.get("encoding-type", group.attrs.get("h5sparse_format", "")))
    if kind.removesuffix("_matrix") not in ("csr", "csc"):
        raise CellsError(
            f"{where} has the encoding {kind or '(none)'!r}; expected csr_matrix, csc_matrix or a dense array. "
            "Write the file again with anndata."
        )
    missing = [name for name in ("indptr", "indices", "data") if not is_array(group.get(name))]
    if missing:
        raise CellsError(f"{where} has no {', '.join(missing)}; a sparse matrix needs them. Write the file again.")
    shape = group.attrs.get("shape", group.attrs.get("h5sparse_shape"))
    if shape is None or np.size(shape) != 2:
        raise CellsError(
            f"{where} does not say its shape; expected an attribute 'shape' of 2 numbers. Write the file again."
        )
    indices, data = (_unpacked(group[name], threads, room) for name in ("indices", "data"))
    return _of_format(kind[:3], _Arrays(group["indptr"], indices, data), (int(shape[0]), int(shape[1])), where, room)


def _unpacked(array: h5py.Dataset | ZarrArray, threads: int, room: ReadingRoom) -> Sliceable:
    """The array with its chunks inflated by threads; zarr does that by itself."""
    return array if isinstance(array, ZarrArray) else inflated(array, threads, room)


class _Arrays:
    """The three arrays of a sparse matrix, under the names scipy gives them."""

    def __init__(self, indptr: Sliceable, indices: Sliceable, data: Sliceable) -> None:
        self.indptr, self.indices, self.data = indptr, indices, data


def _of_format(kind: str, arrays: Any, shape: tuple[int, int], where: str, room: ReadingRoom) -> Rows:
    three = (arrays.indptr, arrays.indices, arrays.data)
    shape = (int(shape[0]), int(shape[1]))
    return CsrRows(*three, shape, where) if kind == "csr" else CscRows(*three, shape, where, room.bucket_bytes)


def _plain(dataset: h5py.Dataset | ZarrArray, where: str) -> h5py.Dataset | ZarrArray:
    kind = _text(dataset.attrs.get("encoding-type", ""))
    if kind not in ("", "array") or dataset.shape is None:
        raise CellsError(
            f"{where} has the encoding {kind or 'empty'!r}; expected csr_matrix, csc_matrix or a dense array. "
            "Write the file again with a matrix in its place."
        )
    return dataset


def _unknown(element: object, where: str) -> str:
    kind = f"{type(element).__module__}.{type(element).__qualname__}"
    if kind.startswith("dask."):
        remedy = "it is not computed yet: call adata.to_memory() first, or give the path of the file"
    elif isinstance(element, np.ma.MaskedArray):
        remedy = "say what the masked values are: fill them first"
    else:
        remedy = "convert it to scipy.sparse.csr_matrix"
    return f"{where} is a {kind}; expected a scipy CSR or CSC matrix or a numpy array: {remedy}."


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
