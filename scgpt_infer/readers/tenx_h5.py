"""Cells of an HDF5 file that ends in ``.h5``: a matrix as Cell Ranger writes it, of version 2 or 3, and what looks so.

The matrix is stored by cells already (genes by cells, CSC), so rows are read as they stand. A file of that suffix that
anndata or mudata wrote is read as what it is.
"""

from functools import partial
from pathlib import Path

import h5py

from scgpt_infer.readers.bare import BareCells
from scgpt_infer.readers.chunks import inflated
from scgpt_infer.readers.counts import choose
from scgpt_infer.readers.damage import reading
from scgpt_infer.readers.features import Genes, SomeColumns, all_of, genes_of
from scgpt_infer.readers.group import GroupCells
from scgpt_infer.readers.h5ad import open_hdf5
from scgpt_infer.readers.matrix import CsrRows, Rows
from scgpt_infer.readers.modalities import open_modality
from scgpt_infer.readers.names import INDEX, GeneNames, texts
from scgpt_infer.readers.room import ROOM, ReadingRoom
from scgpt_infer.readers.source import CellSource, refuse_modality
from scgpt_runtime.errors import CellsError
from scgpt_runtime.machine import cores

__all__ = ["open_h5", "tenx_cells"]

ARRAYS = ("barcodes", "data", "indices", "indptr", "shape")
# Name of a column of features to where it stands: since version 3, and in version 2.
COLUMNS = {"gene_ids": "features/id", "gene_symbols": "features/name"}
FURTHER = {"feature_types": "features/feature_type", "genome": "features/genome"}
OLD_COLUMNS = {"gene_ids": "genes", "gene_symbols": "gene_names"}


def open_h5(
    path: Path,
    *,
    layer: str | None = None,
    threads: int | None = None,
    room: ReadingRoom = ROOM,
    modality: str | None = None,
) -> CellSource:
    """Open an HDF5 file as what it holds; the parameters are those of `scgpt_infer.readers.open_cells`.

    Raises
    ------
    CellsError
        If it is of no known layout, is damaged, or nothing in it can be embedded.
    """
    file = open_hdf5(path, "an HDF5 file from Cell Ranger")
    try:
        with reading(str(path)):
            parts = texts(file)
        if "mod" in parts:
            return open_modality(path, file, file.close, layer=layer, threads=threads, room=room, modality=modality)
        if "obs" in parts and "var" in parts:
            refuse_modality(str(path), modality)
            return GroupCells(path, file, file.close, str(path), layer=layer, threads=threads, room=room)
        return tenx_cells(path, file, layer=layer, threads=threads, room=room, modality=modality)
    except BaseException:
        file.close()
        raise


def tenx_cells(
    path: Path,
    file: h5py.File,
    *,
    layer: str | None = None,
    threads: int | None = None,
    room: ReadingRoom = ROOM,
    modality: str | None = None,
    every: bool = False,
) -> BareCells:
    """A `CellSource` over a matrix of Cell Ranger.

    Parameters
    ----------
    path, file
        The file, and the same open; closing the source closes it.
    layer
        None or ``"X"``: there is one matrix.
    threads, room
        Threads that inflate compressed values and memory for it, see `scgpt_infer.readers.open_cells`.
    modality
        A type of features or a genome; None takes the genes.
    every
        Take the features of all types.

    Raises
    ------
    CellsError
        If the file is laid out otherwise or damaged, or it cannot be told which features are meant.
    """
    where = str(path)
    group = file[_matrix(file, modality, where)]
    features = _features(group, where)
    genes = all_of(features) if every else genes_of(features, modality, where)
    with reading(f"barcodes of {path}"):
        barcodes = group["barcodes"]
        shape = (int(barcodes.shape[0]), len(features["gene_ids"]))
    if 0 in (shape[0], len(genes.columns)):
        raise CellsError(
            f"{path} has {shape[0]:,} cells and {len(genes.columns):,} genes; there is nothing to embed. "
            "Check how the file was made."
        )
    threads = cores().usable if threads is None else threads
    matrices = {"X": partial(_rows, group, shape, genes, f"the matrix of {path}", threads, room)}
    counts = choose(matrices, layer, False, where)
    why = f"it is the file's one matrix{', ' if genes.why else ''}{genes.why}"
    gene_names = GeneNames(genes.table, partial(_names, genes), f"The table of features of {path}")
    return BareCells(path, counts, partial(_barcodes, barcodes, where), gene_names, why, file.close)


def _barcodes(barcodes: h5py.Dataset, where: str, start: int, stop: int) -> list[str]:
    with reading(f"barcodes of {where}"):
        return texts(barcodes[start:stop])


def _matrix(file: h5py.File, modality: str | None, where: str) -> str:
    """The group of the matrix; in version 2 there is one for each genome."""
    with reading(where):
        parts = texts(file)
        found = [name for name in parts if isinstance(file[name], h5py.Group) and all(a in file[name] for a in ARRAYS)]
    if not found:
        raise CellsError(
            f"{where} holds {', '.join(parts) or 'nothing'}; expected a matrix of Cell Ranger (in matrix, or in a "
            "group named as the genome: barcodes, data, indices, indptr, shape), or X, obs and var. "
            "Convert it with scanpy."
        )
    if len(found) == 1:
        return found[0]
    asked = [name for name in found if modality is not None and name.lower() == modality.lower()]
    if len(asked) != 1:
        raise CellsError(f"{where} has matrices of several genomes: {', '.join(found)}. Choose one (--modality).")
    return asked[0]


def _features(group: h5py.Group, where: str) -> dict[str, list[str]]:
    with reading(f"features of {where}"):
        is_old = "genes" in group
        columns = OLD_COLUMNS if is_old else COLUMNS
        missing = [path for path in columns.values() if path not in group]
        if missing:
            raise CellsError(
                f"The matrix of {where} has no {' and no '.join(missing)}, so its genes have no names. "
                "Expected a file as Cell Ranger writes it: write it again."
            )
        there = {name: path for name, path in (columns | FURTHER).items() if path in group}
        features = {name: texts(group[path][:]) for name, path in there.items()}
    if is_old:
        features["genome"] = [group.name.strip("/")] * len(features["gene_ids"])
    if len({len(column) for column in features.values()}) != 1:
        raise CellsError(f"The columns of the features of {where} differ in length. Write the file again.")
    return features


def _names(genes: Genes, column: str) -> list[str]:
    return list(genes.table["gene_symbols" if column == INDEX else column])


def _rows(group: h5py.Group, shape: tuple[int, int], genes: Genes, where: str, threads: int, room: ReadingRoom) -> Rows:
    with reading(where):
        stated = tuple(int(n) for n in group["shape"][:])
        if stated != shape[::-1]:
            raise CellsError(
                f"{where} is {' by '.join(f'{n:,}' for n in stated)}, but {shape[1]:,} features and {shape[0]:,} cells "
                "are named. The file was not written whole, or by a faulty program: write it again."
            )
        indices, data = (inflated(group[name], threads, room) for name in ("indices", "data"))
        rows = CsrRows(group["indptr"], indices, data, shape, where)
    return rows if len(genes.columns) == shape[1] else SomeColumns(rows, genes.columns)
