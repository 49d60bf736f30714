"""Cells of several modalities as one source: the matrices of the modalities side by side, a cell in one row of each.

Open matrices and a table of cells come in, a `CellSource` goes out that also says which columns are of which modality.
It knows nothing of files.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers import matrix
from scgpt_infer.readers.matrix import Rows
from scgpt_infer.readers.names import INDEX
from scgpt_infer.readers.source import Stored
from scgpt_infer.readers.unchanged import Unchanged
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import CellsError

__all__ = ["CellsTold", "Features", "JoinedCells", "Matrix"]

NEAR = 32
"""Rows that lie no farther apart are read in one piece, and those between are thrown away."""

PIECE = 1024
"""Rows that are read in one piece at the most, so that cells in any order take no more memory than in theirs."""


@dataclass(frozen=True, slots=True)
class Features:
    """The features of one modality.

    Attributes
    ----------
    name
        The modality, as the cells call it.
    columns
        (n_features,) columns that they have, rising.
    names
        Their names by the column of the table of features that they stand in, as in `CellSource.gene_names`.
    """

    name: str
    columns: NDArray[np.int64]
    names: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Matrix:
    """One matrix, of one modality or several.

    Attributes
    ----------
    told
        What it is called, such as ``mod/rna/X``.
    values
        What its values are, as in `CellSource.values`.
    rows
        The matrix.
    features
        The modalities that are read; their columns are those of the matrix.
    index
        (n_columns,) names of its columns.
    places
        (n_cells,) int64 row of each cell, -1 for a cell that it does not have; None: row by row the cells themselves.
    """

    told: str
    values: str
    rows: Rows
    features: tuple[Features, ...]
    index: Sequence[str]
    places: NDArray[np.int64] | None = None


class CellsTold(Protocol):
    """What is said of cells beside their values; see `CellSource`."""

    @property
    def cell_columns(self) -> tuple[str, ...]:
        """Names of the columns of ``obs``."""
        ...

    def cell_names(self, start: int, stop: int) -> list[str]:
        """Names of the cells of rows ``start`` to ``stop``."""
        ...

    def cell_column(self, name: str) -> NDArray[np.str_]:
        """A column of ``obs`` as text."""
        ...


class JoinedCells:
    """A `CellSource` over several matrices.

    Parameters
    ----------
    path
        The file; None for an object in memory.
    n_cells
        Number of cells.
    matrices
        At least one, open.
    told
        What is said of the cells.
    why
        How the modalities were found, in words.
    close
        Gives back what the matrices are read from.

    Attributes
    ----------
    modalities
        Those that are read, with their columns among all columns.
    """

    def __init__(
        self,
        path: Path | None,
        n_cells: int,
        matrices: Sequence[Matrix],
        told: CellsTold,
        why: str,
        close: Callable[[], None],
    ) -> None:
        self.path, self.n_cells, self.why = path, n_cells, why
        self._same = Unchanged(path)
        self._matrices, self._told, self._close = tuple(matrices), told, close
        self._rows = _JoinedRows(n_cells, self._matrices)
        self.n_genes = self._rows.shape[1]
        self.counts = ", ".join(one.told for one in self._matrices)
        self.values = ", ".join(dict.fromkeys(one.values for one in self._matrices))
        self.cell_columns = told.cell_columns
        self.modalities = tuple(
            Features(one.name, one.columns + first, one.names)
            for one_matrix, first in zip(self._matrices, self._rows.firsts, strict=True)
            for one in one_matrix.features
        )
        if hasattr(told, "cell_table"):
            self.cell_table: Callable[[], Any] = told.cell_table

    @property
    def gene_names(self) -> Mapping[str, Sequence[str]]:
        """Names of all columns under ``index``; `modalities` have those to match by."""
        return {INDEX: [name for one in self._matrices for name in one.index]}

    def gene_column(self, name: str) -> Sequence[str]:
        """Refused: the modalities need not have the same columns of names."""
        raise CellsError(f"Names of several modalities stand in several tables, and {name!r} was asked for of all.")

    def cell_names(self, start: int, stop: int) -> list[str]:
        """Names of the cells of rows ``start`` to ``stop``."""
        return self._told.cell_names(start, stop)

    def cell_column(self, name: str) -> NDArray[np.str_]:
        """A column of obs as text."""
        return self._told.cell_column(name)

    def stored(self, key: str) -> Stored | None:
        """None: it is not looked for."""
        return None

    def blocks(self, spans: Iterable[range]) -> Iterator[CellBlock]:
        """The cells of each span of rows."""
        return matrix.blocks(self._rows, spans, self._same)

    def sample(self, n: int = 1000) -> CellBlock:
        """About ``n`` cells spread evenly over all rows."""
        return matrix.sample(self._rows, n)

    def close(self) -> None:
        """Give back files."""
        self._rows.close()
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _JoinedRows:
    """Matrices side by side."""

    def __init__(self, n_cells: int, matrices: Sequence[Matrix]) -> None:
        self._matrices = matrices
        widths = [one.rows.shape[1] for one in matrices]
        self.firsts = [sum(widths[:number]) for number in range(len(widths))]
        self.shape = (n_cells, sum(widths))

    def read(self, start: int, stop: int) -> CellBlock:
        """Rows ``start`` to ``stop``, the columns of the first matrix first."""
        parts = [
            one.rows.read(start, stop) if one.places is None else _taken(one.rows, one.places[start:stop])
            for one in self._matrices
        ]
        shifted = [
            # a column that lies outside its own matrix must not become one of the next
            np.where((part.indices < 0) | (part.indices >= one.rows.shape[1]), -1, part.indices + first)
            for part, one, first in zip(parts, self._matrices, self.firsts, strict=True)
        ]
        row_of = np.concatenate([np.repeat(np.arange(stop - start), np.diff(part.indptr)) for part in parts])
        order = np.argsort(row_of, kind="stable")
        indptr: NDArray[np.int64] = np.stack([part.indptr for part in parts]).sum(axis=0)
        indices = np.concatenate(shifted).astype(np.int32)
        return CellBlock(indptr, indices[order], np.concatenate([part.data for part in parts])[order], start)

    def close(self) -> None:
        """Close the matrices."""
        for one in self._matrices:
            one.rows.close()


def _taken(rows: Rows, places: NDArray[np.int64]) -> CellBlock:
    """Rows in any order, an empty one for -1."""
    lengths = np.zeros(len(places), np.int64)
    there = np.flatnonzero(places >= 0)
    order = there[np.argsort(places[there], kind="stable")]
    cuts = np.flatnonzero((np.diff(places[order]) > NEAR) | (np.diff(places[order] // PIECE) > 0)) + 1
    indices: list[NDArray[np.int32]] = [np.empty(0, np.int32)] * len(places)
    data: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(places)
    for cells in np.split(order, cuts):
        if not len(cells):
            continue
        low = int(places[cells[0]])
        block = rows.read(low, int(places[cells[-1]]) + 1)
        for cell, row in zip(cells.tolist(), (places[cells] - low).tolist(), strict=True):
            span = slice(block.indptr[row], block.indptr[row + 1])
            indices[cell], data[cell] = block.indices[span].copy(), block.data[span].copy()  # the piece can go
            lengths[cell] = span.stop - span.start
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    if not len(places):
        return CellBlock(indptr, np.empty(0, np.int32), np.empty(0, np.float32), 0)
    return CellBlock(indptr, np.concatenate(indices), np.concatenate(data), 0)
