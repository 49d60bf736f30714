"""Cells of a matrix in Matrix Market format with lists of its genes and cells, as Cell Ranger and STARsolo write it.

The text is read once, front to back, to temporary files, 8 bytes a value. Where it is not sorted by cells, which 10x's
is, it takes 12 bytes and is regrouped. It knows no vocabularies.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from scgpt_infer.readers.bare import BareCells
from scgpt_infer.readers.features import SomeColumns, genes_of
from scgpt_infer.readers.lines import Lines
from scgpt_infer.readers.matrix import CsrRows, Rows
from scgpt_infer.readers.mtx_files import MtxFiles, find, read_barcodes, read_features
from scgpt_infer.readers.names import INDEX
from scgpt_infer.readers.parsing import Entries, Fault, entries
from scgpt_infer.readers.regroup import RegroupedRows
from scgpt_infer.readers.room import ROOM, ReadingRoom
from scgpt_infer.readers.source import CellsIn
from scgpt_infer.readers.spool import Tape, check_room
from scgpt_infer.readers.text import refuse_layer, text_cells
from scgpt_infer.readers.text_kernels import Wrong
from scgpt_runtime.errors import CellsError

__all__ = ["open_mtx"]

EXPECTED = "a Matrix Market file (%%MatrixMarket matrix coordinate ...)"
SHOWN = 40
# What an entry takes in temporary files, where they are sorted by cells.
ENTRY_BYTES = 8
# Rows whose cell is written out at once.
SLAB = 1 << 20


@dataclass(frozen=True, slots=True)
class _Head:
    """What a Matrix Market file says of itself: rows, columns and entries, and whether these have values."""

    shape: tuple[int, int]
    n_entries: int
    has_values: bool


def open_mtx(
    path: Path,
    *,
    layer: str | None = None,
    threads: int | None = None,
    room: ReadingRoom = ROOM,
    modality: str | None = None,
    cells_in: CellsIn | None = None,
) -> BareCells:
    """Open a matrix and its lists of names; the parameters are those of `scgpt_infer.readers.open_cells`.

    Parameters
    ----------
    path
        The folder, or the file of the matrix.

    Raises
    ------
    CellsError
        If a file is missing or damaged, or the three do not fit each other.
    """
    refuse_layer(path, layer)
    files = find(path)
    features, cells = read_features(files.features), read_barcodes(files.barcodes)
    genes = genes_of(features, modality, str(files.features))
    shape = (len(cells), len(features["gene_ids"]))
    with ExitStack() as stack, Lines(files.matrix, EXPECTED) as lines:
        head = _head(lines)
        found, why = _orientation(head, shape, cells_in, files)
        spool = _Spool(shape, str(files.matrix), room)
        stack.callback(spool.close)
        if ENTRY_BYTES * head.n_entries > room.tape_bytes:
            check_room(ENTRY_BYTES * head.n_entries, str(files.matrix))
        _read(lines, head, found, spool)
        rows = spool.rows()
        if len(genes.columns) != shape[1]:
            rows = SomeColumns(rows, genes.columns)
        names = {**genes.table, INDEX: genes.table["gene_symbols"]}
        why = ", ".join(part for part in ("it is the file's one matrix", genes.why, why) if part)
        source = text_cells(path, rows, cells, names, why, spool.close)
        stack.pop_all()  # the source closes it
        return source


class _Spool:
    """Entries as they come; the cell of each is only kept where they are not sorted by it.

    Parameters
    ----------
    shape
        Cells and genes.
    where
        Name of the matrix in messages.
    room
        Memory that they may take.
    """

    def __init__(self, shape: tuple[int, int], where: str, room: ReadingRoom) -> None:
        self._shape, self._where, self._room = shape, where, room
        self._genes, self._values = self._tape(np.int32), self._tape(np.float32)
        self._cells: Tape | None = None
        self._counts = np.zeros(shape[0] + 1, np.int64)  # entries of each cell, from place 1 on
        self._last = 0

    def append(self, cells: NDArray[np.int32], genes: NDArray[np.int32], values: NDArray[np.float32]) -> None:
        """Add entries."""
        if not len(cells):
            return
        if self._cells is None and (cells[0] < self._last or np.any(cells[1:] < cells[:-1])):
            self._cells = self._written_out()
        if self._cells is not None:
            self._cells.append(cells)
        low = int(cells.min())
        found = np.bincount(cells - low)
        self._counts[low + 1 : low + 1 + len(found)] += found
        self._genes.append(genes)
        self._values.append(values)
        self._last = int(cells[-1])

    def rows(self) -> Rows:
        """The rows of the cells; what was added must be all."""
        if self._cells is None:
            return CsrRows(np.cumsum(self._counts), self._genes, self._values, self._shape, self._where)
        three = (self._cells, self._genes, self._values)
        return RegroupedRows(*three, self._shape, self._where, self._room.bucket_bytes)

    def close(self) -> None:
        """Remove the temporary files."""
        for tape in (self._genes, self._values, self._cells):
            if tape is not None:
                tape.close()

    def _tape(self, dtype: DTypeLike) -> Tape:
        return Tape(dtype, self._where, self._room.tape_bytes)

    def _written_out(self) -> Tape:
        """The cells of the entries so far, which were sorted."""
        tape = self._tape(np.int32)
        try:
            for low in range(0, self._shape[0], SLAB):
                counts = self._counts[low + 1 : low + 1 + SLAB]
                tape.append(np.repeat(np.arange(low, low + len(counts), dtype=np.int32), counts))
        except BaseException:
            tape.close()
            raise
        return tape


def _head(lines: Lines) -> _Head:
    first = lines.text(lines.take() or b"")
    banner = first.lower().split()
    if banner[:2] != ["%%matrixmarket", "matrix"] or len(banner) != 5:
        raise CellsError(f"{lines.path} begins {_shown(first)}; expected {EXPECTED}. Check what the file is.")
    if banner[2] != "coordinate" or banner[3] not in ("integer", "real", "pattern") or banner[4] != "general":
        raise CellsError(
            f"{lines.path} is {' '.join(banner[2:])}; expected coordinate, then integer, real or pattern, then "
            "general. Write it again as a sparse matrix of counts."
        )
    line = lines.take()
    while line is not None and line.startswith(b"%"):
        line = lines.take()
    try:
        rows, columns, n_entries = (int(field) for field in (line or b"").split())
    except ValueError as error:
        raise CellsError(
            f"Line {lines.number:,} of {lines.path} is {_shown(lines.text(line or b''))}; expected three whole "
            "numbers: rows, columns and entries. The file is damaged: copy or download it again."
        ) from error
    return _Head((rows, columns), n_entries, banner[3] != "pattern")


def _orientation(head: _Head, shape: tuple[int, int], told: CellsIn | None, files: MtxFiles) -> tuple[CellsIn, str]:
    """Where the cells are, by the lengths of the lists; 10x's columns where both would do."""
    fits: list[CellsIn] = []
    if head.shape == shape[::-1]:
        fits.append("columns")
    if head.shape == shape:
        fits.append("rows")
    if told is not None:
        fits = [found for found in fits if found == told]
    if fits:
        return fits[0], "its cells are in rows, unlike 10x's" if fits[0] == "rows" else ""
    raise CellsError(
        f"{files.matrix} is {head.shape[0]:,} by {head.shape[1]:,}, but {files.features.name} names {shape[1]:,} "
        f"features and {files.barcodes.name} {shape[0]:,} cells{'' if told is None else f', told to be in {told}'}; "
        "expected the three files of one matrix. Check that they belong together."
    )


def _read(lines: Lines, head: _Head, found: CellsIn, spool: _Spool) -> None:
    n = 0
    for block in lines.blocks():
        part = entries(block, head.shape, head.has_values)
        if part.fault is not None:
            raise _refused(lines, head, block, part.fault)
        n += len(part.values)
        spool.append(*_cells_first(part, found), part.values)
    if n != head.n_entries:
        raise CellsError(
            f"{lines.path} says that it has {head.n_entries:,} entries, and {n:,} are there. It "
            f"{'was cut short' if n < head.n_entries else 'is damaged'}: copy or download it again."
        )


def _cells_first(part: Entries, found: CellsIn) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    return (part.rows, part.columns) if found == "rows" else (part.columns, part.rows)


def _refused(lines: Lines, head: _Head, block: bytes, fault: Fault) -> CellsError:
    """The error for a line that is no entry."""
    line = lines.text(block[fault.begin : block.index(b"\n", fault.begin)].rstrip(), block, fault.begin)
    where = f"Line {lines.number + fault.line + 1:,} of {lines.path} is {_shown(line)}"
    if fault.wrong == Wrong.OUTSIDE:
        return CellsError(
            f"{where}, outside the {head.shape[0]:,} rows and {head.shape[1]:,} columns, which are counted from 1. The "
            "file was written by a faulty program: write it again."
        )
    return CellsError(
        f"{where}; expected a row, a column{' and a number' if head.has_values else ''}. The file was cut short or is "
        "damaged: copy or download it again."
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")
