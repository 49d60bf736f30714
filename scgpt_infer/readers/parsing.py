"""Numbers out of blocks of text: rows of a table, entries of a Matrix Market file.

In: whole lines as bytes. Out: the values with the places where they stand, and the first line that is not as it
should be. It knows no files, no encodings and no messages.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers import text_kernels
from scgpt_infer.readers.matrix import to_float32
from scgpt_infer.readers.text_kernels import PADDING, Wrong

__all__ = ["Entries", "Fault", "TableRows", "entries", "table_rows"]

# What a number consists of, where the kernels leave it to Python.
_NUMBER = re.compile(rb"[-+.0-9eE]+")


@dataclass(frozen=True, slots=True)
class Fault:
    """The first line that is not as it should be; those before it were read.

    Attributes
    ----------
    wrong
        What is wrong with it.
    line
        Lines before it in the block, blank ones among them.
    begin
        Where in the block it begins.
    column
        Values before the one that is wrong.
    """

    wrong: Wrong
    line: int
    begin: int
    column: int


@dataclass(frozen=True, slots=True)
class TableRows:
    """Rows of a table.

    Attributes
    ----------
    counts
        (n_rows,) int64 values of each row that are not zero.
    names
        (n_rows, 2) int64, where in the block the name of each row begins and ends, its quotes among it.
    columns, values
        (n_values,) int32 and float32.
    fault
        The line that ended the reading, if one did.
    """

    counts: NDArray[np.int64]
    names: NDArray[np.int64]
    columns: NDArray[np.int32]
    values: NDArray[np.float32]
    fault: Fault | None


@dataclass(frozen=True, slots=True)
class Entries:
    """Entries of a Matrix Market file.

    Attributes
    ----------
    rows, columns, values
        (n_entries,) int32 from 0, int32 from 0, and float32.
    fault
        The line that ended the reading, if one did.
    """

    rows: NDArray[np.int32]
    columns: NDArray[np.int32]
    values: NDArray[np.float32]
    fault: Fault | None


def table_rows(block: bytes, n_values: int, delimiter: bytes) -> TableRows:
    """Read lines of a name and ``n_values`` numbers each. Zeros are left out, blank lines too.

    A number may stand in quotes, between spaces, and with an exponent; ``NA`` and ``NaN`` are NaN. It becomes the
    float32 nearest to the float64 nearest to it, as everywhere else.

    Parameters
    ----------
    block
        Whole lines, each with its end.
    n_values
        Numbers in a line.
    delimiter
        The character between them.
    """
    n_rows = len(block) // (2 * n_values + 1) + 1  # a number takes two characters at least, and a line ends
    counts, names = np.empty(n_rows, np.int64), np.empty((n_rows, 2), np.int64)
    n = len(block) // 2 + 1
    columns, values, unsure = np.empty(n, np.int32), np.empty(n, np.float32), np.empty((n, 2), np.int64)
    text = np.frombuffer(block + PADDING, np.uint8)
    n_rows, n, n_unsure, *fault = text_kernels.table_rows(
        text, len(block), n_values, delimiter[0], counts, names, columns, values, unsure
    )
    _settle(block, values, unsure[:n_unsure])
    return TableRows(counts[:n_rows], names[:n_rows], columns[:n].copy(), values[:n].copy(), _fault(*fault))


def entries(block: bytes, shape: tuple[int, int], has_values: bool) -> Entries:
    """Read lines of a row, a column and a number, separated by spaces or tabs. Blank lines and comments are left out.

    Parameters
    ----------
    block
        Whole lines, each with its end.
    shape
        Rows and columns that there are; a line names them from 1.
    has_values
        Whether there is a number; else it is 1.
    """
    n = len(block) // 4 + 1  # "1 1" and the end
    rows, columns, values = np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.float32)
    unsure = np.empty((n, 2), np.int64)
    text = np.frombuffer(block + PADDING, np.uint8)
    n, n_unsure, *fault = text_kernels.market_entries(
        text, len(block), *shape, has_values, rows, columns, values, unsure
    )
    _settle(block, values, unsure[:n_unsure])
    return Entries(rows[:n].copy(), columns[:n].copy(), values[:n].copy(), _fault(*fault))


def _fault(wrong: int, line: int, begin: int, column: int) -> Fault | None:
    return None if wrong == Wrong.NOTHING else Fault(Wrong(wrong), line, begin, column)


def _settle(block: bytes, values: NDArray[np.float32], unsure: NDArray[np.int64]) -> None:
    """Give the few values their numbers of which the kernels could not be sure."""
    for place, begin in unsure.tolist():
        number = _NUMBER.match(block, begin)
        values[place] = to_float32(np.array(float(number[0]) if number else np.nan))
