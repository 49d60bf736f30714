"""Cells of an HDF5 file that ends in ``.h5``: a matrix as Cell Ranger writes it, of version 2 or 3, and what looks so.

The matrix is stored by cells already (genes by cells, CSC), so rows are read as they stand. A file of that suffix that
anndata or mudata wrote is read as what it is.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py
import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers import matrix
from scgpt_infer.readers.chunks import inflated
from scgpt_infer.readers.counts import choose
from scgpt_infer.readers.damage import reading
from scgpt_infer.readers.features import Genes, SomeColumns, genes_of
from scgpt_infer.readers.group import GroupCells
from scgpt_infer.readers.h5ad import open_hdf5
from scgpt_infer.readers.matrix import CsrRows, Rows
from scgpt_infer.readers.modalities import open_modality
from scgpt_infer.readers.names import INDEX, GeneNames, cell_text, no_column, texts
from scgpt_infer.readers.source import CellSource, Stored, refuse_modality
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import CellsError
from scgpt_runtime.machine import cores

__all__ = ["TenxCells", "open_h5"]

ARRAYS = ("barcodes", "data", "indices", "indptr", "shape")
# Name of a column of features to where it stands: since version 3, and in version 2.
COLUMNS = {"gene_ids": "features/id", "gene_symbols": "features/name"}
FURTHER = {"feature_types": "features/feature_type", "genome": "features/genome"}
OLD_COLUMNS = {"gene_ids": "genes", "gene_symbols": "gene_names"}


def open_h5(
    path: Path, *, layer: str | None = None, threads: int | None = None, modality: str | None = None
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
            return open_modality(path, file, file.close, layer=layer, threads=threads, modality=modality)
        if "obs" in parts and "var" in parts:
            refuse_modality(str(path), modality)
            return GroupCells(path, file, file.close, str(path), layer=layer, threads=threads)
        return TenxCells(path, file, layer=layer, threads=threads, modality=modality)
    except BaseException:
        file.close()
        raise


class TenxCells:
    """A `CellSource` over a matrix of Cell Ranger.

    Parameters
    ----------
    path, file
        The file, and the same open; `close` closes it.
    layer
        None or ``"X"``: there is one matrix.
    threads
        Threads that inflate compressed values, see `scgpt_infer.readers.open_cells`.
    modality
        A type of features or a genome; None takes the genes.

    Raises
    ------
    CellsError
        If the file is laid out otherwise or damaged, or it cannot be told which features are meant.
    """

    def __init__(
        self,
        path: Path,
        file: h5py.File,
        *,
        layer: str | None = None,
        threads: int | None = None,
        modality: str | None = None,
    ) -> None:
        self.path: Path | None = path
        self._file, self._where = file, str(path)
        group = file[_matrix(file, modality, self._where)]
        features = _features(group, self._where)
        genes = genes_of(features, modality, self._where)
        with reading(f"barcodes of {path}"):
            self._barcodes = group["barcodes"]
            shape = (int(self._barcodes.shape[0]), len(features["gene_ids"]))
        if 0 in (shape[0], len(genes.columns)):
            raise CellsError(
                f"{path} has {shape[0]:,} cells and {len(genes.columns):,} genes; there is nothing to embed. "
                "Check how the file was made."
            )
        threads = cores().usable if threads is None else threads
        matrices = {"X": partial(_rows, group, shape, genes, f"the matrix of {path}", threads)}
        counts = choose(matrices, layer, False, str(path))
        self._rows = counts.rows
        self.counts, self.values = counts.name, counts.values
        self.why = f"it is the file's one matrix{', ' if genes.why else ''}{genes.why}"
        self.n_cells, self.n_genes = counts.rows.shape
        self.cell_columns: tuple[str, ...] = ()
        self.gene_names = GeneNames(genes.table, partial(_names, genes), f"The table of features of {path}")

    def gene_column(self, name: str) -> Sequence[str]:
        """Gene names of a column of the features."""
        return self.gene_names.ask(name)

    def cell_names(self, start: int, stop: int) -> list[str]:
        """Barcodes of the cells of rows ``start`` to ``stop``."""
        with reading(f"barcodes of {self._where}"):
            return texts(self._barcodes[start:stop])

    def cell_column(self, name: str) -> NDArray[np.str_]:
        """The barcodes, for ``"index"``: nothing else is said of the cells."""
        if name != INDEX:
            raise no_column(f"obs of {self._where}", name, ())
        return cell_text(self.cell_names(0, self.n_cells))

    def stored(self, key: str) -> Stored | None:
        """None: such a file holds no embedding."""
        return None

    def blocks(self, range_rows: int, stop: int | None = None) -> Iterator[CellBlock]:
        """The cells in order, in blocks of ``range_rows`` from row 0, up to row ``stop``."""
        return matrix.blocks(self._rows, range_rows, stop)

    def sample(self, n: int = 1000) -> CellBlock:
        """About ``n`` cells spread evenly over the file."""
        return matrix.sample(self._rows, n)

    def close(self) -> None:
        """Close the file."""
        self._rows.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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


def _rows(group: h5py.Group, shape: tuple[int, int], genes: Genes, where: str, threads: int) -> Rows:
    with reading(where):
        stated = tuple(int(n) for n in group["shape"][:])
        if stated != shape[::-1]:
            raise CellsError(
                f"{where} is {' by '.join(f'{n:,}' for n in stated)}, but {shape[1]:,} features and {shape[0]:,} cells "
                "are named. The file was not written whole, or by a faulty program: write it again."
            )
        indices, data = inflated(group["indices"], threads), inflated(group["data"], threads)
        rows = CsrRows(group["indptr"], indices, data, shape, where)
    return rows if len(genes.columns) == shape[1] else SomeColumns(rows, genes.columns)
