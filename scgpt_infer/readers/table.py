"""Cells of a table of text: names along the top and down the side, numbers between; cells in rows or in columns.

The text is read once, front to back; its values that are not zero go to temporary files, 8 bytes each. Delimiter and
orientation are recognised. It knows no vocabularies.
"""

import csv
import re
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers.bare import BareCells
from scgpt_infer.readers.csc import CscRows
from scgpt_infer.readers.lines import Lines
from scgpt_infer.readers.matrix import CsrRows, Rows
from scgpt_infer.readers.names import INDEX
from scgpt_infer.readers.orientation import gene_share, orient
from scgpt_infer.readers.parsing import Fault, table_rows
from scgpt_infer.readers.room import ROOM, ReadingRoom
from scgpt_infer.readers.source import CellsIn
from scgpt_infer.readers.spool import Tape
from scgpt_infer.readers.text import refuse_layer, text_cells
from scgpt_infer.readers.text_kernels import Wrong
from scgpt_runtime.errors import CellsError

__all__ = ["open_table"]

EXPECTED = "a table of numbers with names of genes and cells (.csv, .tsv)"
# In the order in which they are tried: names hold the later ones more often.
DELIMITERS = ("\t", ";", ",", " ")
SHOWN = 40
_QUOTED = re.compile(r'"[^"]*"')
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+([eE][-+]?\d+)?")


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the lines are written.

    Attributes
    ----------
    delimiter
        Character between fields.
    corner
        Name above the first column; empty where there is none.
    top
        Names of the other columns.
    """

    delimiter: str
    corner: str
    top: list[str]


@dataclass(frozen=True, slots=True)
class _Numbers:
    """What was read.

    Attributes
    ----------
    side
        Names of the rows.
    indptr
        (n_rows + 1,) where each row begins.
    columns, values
        (n_values,) the values that are not zero.
    """

    side: list[str]
    indptr: NDArray[np.int64]
    columns: Tape
    values: Tape

    def close(self) -> None:
        """Remove the temporary files."""
        self.columns.close()
        self.values.close()


def open_table(
    path: Path,
    *,
    layer: str | None = None,
    threads: int | None = None,
    room: ReadingRoom = ROOM,
    cells_in: CellsIn | None = None,
) -> BareCells:
    """Open a table; the parameters are those of `scgpt_infer.readers.open_cells`. Threads are of no use to it.

    Raises
    ------
    CellsError
        If it is no table of numbers, or it cannot be told where its cells are.
    """
    refuse_layer(path, layer)
    with ExitStack() as stack:
        with Lines(path, EXPECTED) as lines:
            layout = _layout(lines)
            columns, values = (
                stack.enter_context(closing(Tape(kind, str(path), room.tape_bytes))) for kind in (np.int32, np.float32)
            )
            numbers = _read(lines, layout, columns, values)
        found, why = orient(layout.top, numbers.side, cells_in, str(path))
        cells, genes = (numbers.side, layout.top) if found == "rows" else (layout.top, numbers.side)
        if found == "rows":
            _check_names(layout, cells, path)
        rows = _rows(numbers, found, (len(cells), len(genes)), str(path), room)
        source = text_cells(path, rows, cells, {INDEX: genes}, f"it is the file's one matrix; {why}", numbers.close)
        stack.pop_all()  # the source closes them
        return source


def _layout(lines: Lines) -> _Layout:
    head = lines.text(lines.take() or b"")
    number, line = lines.number, lines.peek()
    if line is None:
        raise CellsError(f"{lines.path} has a first line and no others; expected {EXPECTED}. Check how it was written.")
    first = lines.text(line, line)
    for delimiter in DELIMITERS:
        n_first = _n_fields(first, delimiter)
        n_top = n_first - 1
        if n_top and _n_fields(head, delimiter) in (n_top, n_first):
            names = _fields(head, delimiter)
            # R writes no name above the names of the rows.
            return _Layout(delimiter, "" if len(names) == n_top else names[0], names[-n_top:])
    delimiter = max(DELIMITERS, key=lambda each: _n_fields(first, each))
    n_head, n_first = _n_fields(head, delimiter), _n_fields(first, delimiter)
    if n_first == 1:
        raise CellsError(
            f"{lines.path} has no tabs, commas, semicolons or spaces between fields: it begins {_shown(head)}; "
            f"expected {EXPECTED}. Check what it is."
        )
    raise CellsError(
        f"Line {number:,} of {lines.path} has {n_head:,} fields and the next one {n_first:,}; expected as many, or one "
        "more where nothing stands above the names of the rows. The file was not written whole: write it again."
    )


def _read(lines: Lines, layout: _Layout, columns: Tape, values: Tape) -> _Numbers:
    side: list[str] = []
    counts = [np.zeros(1, np.int64)]
    for block in lines.blocks():
        rows = table_rows(block, len(layout.top), layout.delimiter.encode())
        if rows.fault is not None:
            raise _refused(lines, layout, block, rows.fault)
        side += [_name(lines, block, begin, end) for begin, end in rows.names.tolist()]
        counts.append(rows.counts)
        columns.append(rows.columns)
        values.append(rows.values)
    return _Numbers(side, np.cumsum(np.concatenate(counts)), columns, values)


def _rows(numbers: _Numbers, found: CellsIn, shape: tuple[int, int], where: str, room: ReadingRoom) -> Rows:
    three = (numbers.indptr, numbers.columns, numbers.values)
    return CsrRows(*three, shape, where) if found == "rows" else CscRows(*three, shape, where, room.bucket_bytes)


def _name(lines: Lines, block: bytes, begin: int, end: int) -> str:
    name = block[begin:end].strip()
    if name.startswith(b'"'):
        name = name[1:].removesuffix(b'"').replace(b'""', b'"')
    return lines.text(name, block, begin).strip()


def _check_names(layout: _Layout, cells: list[str], path: Path) -> None:
    """Refuse a table whose first column is the counts of a gene."""
    if gene_share([layout.corner]) and all(name.replace(".", "", 1).isdigit() for name in cells):
        raise CellsError(
            f"The first column of {path} is called {layout.corner!r}, as a gene, and holds numbers; expected the names "
            "of the cells. Write the table with them (pandas: index=True; R: row.names=TRUE)."
        )


def _refused(lines: Lines, layout: _Layout, block: bytes, fault: Fault) -> CellsError:
    """The error for a line that is not as the others."""
    line = lines.text(block[fault.begin : block.index(b"\n", fault.begin)].rstrip(b"\r"), block, fault.begin)
    where = f"Line {lines.number + fault.line + 1:,} of {lines.path}"
    n_fields, expected = _n_fields(line, layout.delimiter), len(layout.top) + 1
    if fault.wrong == Wrong.OPEN_QUOTE:
        return CellsError(f"{where} begins with a quote that does not close: {_shown(line)}. Write the table again.")
    if fault.wrong in (Wrong.TOO_FEW, Wrong.TOO_MANY):
        return CellsError(
            f"{where} has {n_fields:,} fields; expected {expected:,}: a name and {expected - 1:,} numbers, as in the "
            "first lines. The file was cut short, or numbers in it have commas: write it again."
        )
    column = f"column {fault.column + 2:,} ({layout.top[fault.column]!r})"
    if fault.wrong == Wrong.EMPTY:
        return CellsError(f"{where} has nothing in {column}; expected a number. Write 0 where nothing was counted.")
    field = _fields(line, layout.delimiter)[fault.column + 1]
    if _DECIMAL_COMMA.fullmatch(field):
        return CellsError(f"{where} has the decimal comma {field!r} in {column}. Write the numbers with points.")
    return CellsError(
        f"{where} has {_shown(field)} in {column}; expected a number. Only the first line and the first column hold "
        "names: leave out what is no gene and no cell."
    )


def _n_fields(line: str, delimiter: str) -> int:
    return _QUOTED.sub("", line).count(delimiter) + 1


def _fields(line: str, delimiter: str) -> list[str]:
    try:
        return [field.strip() for field in next(csv.reader([line], delimiter=delimiter))]
    except csv.Error:
        return [field.strip(' "') for field in line.split(delimiter)]


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")
