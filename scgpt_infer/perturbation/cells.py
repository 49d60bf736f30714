"""Cells as the generator takes them: log-normalised values of the genes that it knows, zeros included.

In: an open source. Out: the `Panel` of its genes, and `Rows` of values. It knows no perturbation and runs no model.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from scgpt_infer.perturbation.asked import Values
from scgpt_infer.readers import CellSource
from scgpt_infer.spans import grid
from scgpt_infer.summary import BadCell
from scgpt_runtime.cells import CellBlock, CellFault
from scgpt_runtime.errors import CellsError
from scgpt_runtime.vocab import GeneMatch

__all__ = [
    "TARGET",
    "Cells",
    "Panel",
    "Rows",
    "chosen",
    "control_rows",
    "is_logged",
    "panel_of",
    "read_cells",
    "rows_of",
]

TARGET = 10_000.0
"""Counts are scaled to this sum before the logarithm, as for GEARS (scanpy's ``normalize_total(target_sum=1e4)``)."""

SHOWN = 40


@dataclass(frozen=True, slots=True)
class Panel:
    """Genes of a source that the model knows, in the order in which it is told of them: by token id.

    Attributes
    ----------
    columns
        (n_genes,) int64 columns of the source.
    ids
        (n_genes,) int64 token ids, ascending. A gene that stands in two columns is there twice.
    names
        Their names in the source.
    """

    columns: NDArray[np.int64]
    ids: NDArray[np.int64]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a source.

    Attributes
    ----------
    rows
        (n,) int64 rows.
    values
        (n, n_genes) float32 log-normalised values of a panel.
    faults
        (n,) uint8 of `CellFault`; the values of a bad cell mean nothing.
    """

    rows: NDArray[np.int64]
    values: sp.csr_matrix
    faults: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells in memory.

    Attributes
    ----------
    names
        Of the cells.
    values
        (n_cells, n_genes) float32 log-normalised values of a panel.
    bad
        Cells that were wanted and cannot be used.
    """

    names: tuple[str, ...]
    values: sp.csr_matrix
    bad: tuple[BadCell, ...]


def panel_of(match: GeneMatch, names: list[str], among: NDArray[np.bool_]) -> Panel:
    """The genes of a source that a model knows.

    Parameters
    ----------
    match
        Token id of each column.
    names
        Name of each column.
    among
        (n_tokens,) tokens that take part, from `scgpt_runtime.vocab.taking_part`.
    """
    ids = np.where((match.columns >= 0) & among[match.columns], match.columns, -1)
    columns = np.flatnonzero(ids >= 0)
    columns = columns[np.argsort(ids[columns], kind="stable")]
    return Panel(columns, ids[columns], tuple(str(names[column]) for column in columns.tolist()))


def control_rows(source: CellSource, control: tuple[str, str] | None) -> NDArray[np.int64]:
    """Rows of the control cells, ascending.

    Raises
    ------
    CellsError
        There is no such column, or no cell has the value.
    """
    if control is None:
        return np.arange(source.n_cells)
    column, value = control
    values = source.cell_column(column)
    rows = np.flatnonzero(values == value)
    if not len(rows):
        there = np.unique(values[values != ""]).tolist()
        shown = ", ".join(there[:SHOWN]) + (f" and {len(there) - SHOWN:,} more" if len(there) > SHOWN else "")
        raise CellsError(f"No cell has {value!r} in the column {column!r}; it has {shown or 'no value'}.")
    return rows


def chosen(source: CellSource, rows: NDArray[np.int64], n: int | None) -> NDArray[np.int64]:
    """At most n of the rows: those whose cells' names have the smallest hash, whatever the order of the cells."""
    if n is None or n >= len(rows):
        return rows
    names = source.cell_names(0, source.n_cells)
    hashes = np.array([hashlib.blake2b(names[row].encode(), digest_size=8).hexdigest() for row in rows.tolist()])
    return np.sort(rows[np.argsort(hashes, kind="stable")[:n]])


def read_cells(source: CellSource, rows: NDArray[np.int64], panel: Panel, values: Values) -> Cells:
    """Read cells into memory.

    Raises
    ------
    CellsError
        None of them can be used.
    """
    kept, places, bad = [], [], []
    for part in rows_of(source, rows, panel, values):
        good = part.faults == CellFault.NONE
        kept.append(part.values[np.flatnonzero(good)])
        places.append(part.rows[good])
        bad += list(zip(part.rows[~good].tolist(), part.faults[~good].tolist(), strict=True))
    names = source.cell_names(0, source.n_cells)
    told = tuple(BadCell(row, names[row], CellFault(fault).reason) for row, fault in bad)
    if len(told) == len(rows):
        reasons = ", ".join(sorted({cell.reason for cell in told})) or "there are none"
        raise CellsError(
            f"None of the {len(rows):,} control cells can be used ({reasons}). Check that the counts are where they "
            "were taken from (--layer), and that the gene names are the right ones (--gene-col)."
        )
    return Cells(tuple(names[row] for row in np.concatenate(places).tolist()), sp.vstack(kept, format="csr"), told)


def is_logged(source: CellSource, values: Values) -> bool:
    """Whether values are taken as they are: as told, or as they are recognised."""
    return values == "log1p" or (values == "auto" and source.values == "log1p")


def rows_of(source: CellSource, rows: NDArray[np.int64], panel: Panel, values: Values) -> Iterator[Rows]:
    """Walk through some rows of a source, in its order.

    Parameters
    ----------
    source
        Open cells.
    rows
        Ascending.
    panel
        Genes that are wanted. The sum that counts are divided by is over all columns of the source.
    values
        ``auto``: counts, and normalised values without a logarithm, are normalised and logged.
    """
    logged = is_logged(source, values)
    for block in source.blocks(grid(int(rows[-1]) + 1 if len(rows) else 0)):
        stop = block.first_row + block.n_cells
        wanted = rows[np.searchsorted(rows, block.first_row) : np.searchsorted(rows, stop)]
        if len(wanted):
            yield _normalised(block, wanted, panel, source.n_genes, logged)


def _normalised(block: CellBlock, rows: NDArray[np.int64], panel: Panel, n_genes: int, logged: bool) -> Rows:
    row_of = np.repeat(np.arange(block.n_cells), np.diff(block.indptr))
    faults, fits = _faults(block, row_of, n_genes)
    data = np.where(fits & np.isfinite(block.data), block.data, 0).astype(np.float64)
    indices = np.where(fits, block.indices, 0)
    matrix = sp.csr_matrix((data, indices, block.indptr), (block.n_cells, n_genes))
    totals = np.asarray(matrix.sum(axis=1)).ravel()
    faults[(totals == 0) & (faults == CellFault.NONE)] = CellFault.NO_COUNTS
    if not logged:
        matrix.sum_duplicates()  # a logarithm of parts is not that of their sum
        each = np.repeat(np.where(totals > 0, totals, 1.0), np.diff(matrix.indptr))
        matrix.data = np.log1p(np.maximum(matrix.data, 0) * (TARGET / each))
    places = rows - block.first_row
    taken = matrix[places][:, panel.columns].astype(np.float32)
    return Rows(rows, taken.tocsr(), faults[places])


def _faults(block: CellBlock, row_of: NDArray[np.int64], n_genes: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Fault of each cell, and whether the column of each value is one of the matrix."""
    faults = np.zeros(block.n_cells, np.uint8)
    fits = (block.indices >= 0) & (block.indices < n_genes)
    marks = (
        (~fits, CellFault.BAD_INDEX),
        (block.data < 0, CellFault.NEGATIVE),
        (np.isinf(block.data), CellFault.INFINITE),
        (np.isnan(block.data), CellFault.NAN),
    )
    for where, fault in marks:
        faults[row_of[where]] = fault
    return faults, fits
