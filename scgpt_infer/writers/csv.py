"""``.csv``: ``cell``, what is told of it, ``e0``, ``e1``, ..., ``error``; the run in ``x.csv.json``.

Where the numbers of a vector have names, those stand for ``e0``, ``e1``. Nine digits bring every float32 back bit for
bit, five every float16. A cell without a result has empty fields and its reason.
"""

import csv
import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import numpy as np

from scgpt_infer.writers.sink import (
    Column,
    Part,
    Record,
    Sink,
    Table,
    Target,
    beside,
    matrix_of,
    output_errors,
    record_json,
    sync_together,
    table_of,
    write_all,
)

__all__ = ["BESIDE", "bytes_needed", "open_csv"]

BESIDE = (".csv.json",)
"""Suffixes of the files that lie beside the table."""

_NAME_BYTES = 32
_NUMBER_BYTES = 15  # sign, point, nine digits, exponent, comma


def bytes_needed(target: Target) -> int:
    """Room for the table, every number at its longest."""
    vectors = target.dim * (1 + len(target.matrices)) * _NUMBER_BYTES if target.with_vectors else 0
    vectors += sum(table.width for table in _tables(target)) * _NUMBER_BYTES
    columns = sum(
        max((len(word.encode()) for word in column.words), default=0) + _NUMBER_BYTES for column in target.columns
    )
    return target.n_cells * (vectors + columns + _NAME_BYTES) + 4096


@contextmanager
def open_csv(target: Target) -> Iterator[Sink]:
    """Open a sink for a ``.csv`` file and the record beside it."""
    record = target.path.with_suffix(BESIDE[0])
    with (
        beside(target.path) as table_path,
        beside(record) as record_path,
        table_path.open("wb", buffering=0) as file,
    ):
        sink = CsvSink(target, file, {record: record_path, target.path: table_path})
        errors = ["error"] if target.row == "cell" else []
        sink.append([[target.row, *(column.name for column in target.columns), *_vector_names(target), *errors]])
        yield sink


@dataclass(frozen=True, slots=True)
class CsvSink:
    """Appends rows as text."""

    target: Target
    file: FileIO
    temporaries: dict[Path, Path]

    def write(self, part: Part) -> None:
        """Take the next rows."""
        names = self.target.names(part.first_row, part.first_row + part.n_cells)
        told = [_texts(column, part) for column in self.target.columns]
        missing = [""] * len(_vector_names(self.target))
        others = [matrix_of(part, name) for name in self.target.matrices]
        tables = [table_of(part, table) for table in _tables(self.target)]
        arrays = [*([part.vectors, *others] if self.target.with_vectors else []), *tables]
        vectors = self.target.stored(np.hstack(arrays)).tolist() if missing else [[]] * part.n_cells
        number = "{:.9g}" if self.target.dtype == "float32" else "{:.5g}"
        self.append(
            [
                name,
                *(texts[row] for texts in told),
                *(missing if reason else ["" if math.isnan(value) else number.format(value) for value in vectors[row]]),
                *([reason] if self.target.row == "cell" else []),
            ]
            for row, (name, reason) in enumerate(zip(names, part.reasons, strict=True))
        )

    def append(self, rows: Iterator[list[str]] | list[list[str]]) -> None:
        """Write rows as they are."""
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        with output_errors(self.target.path):
            write_all(self.file, text.getvalue().encode())

    def commit(self, record: Record) -> None:
        """Give both files their names, the table last."""
        with output_errors(self.target.path):
            self.temporaries[self.target.path.with_suffix(BESIDE[0])].write_bytes(record_json(record))
            sync_together(self.temporaries)


def _vector_names(target: Target) -> list[str]:
    of_tables = [head for table in _tables(target) for head in table.heads]
    if not target.with_vectors:
        return of_tables
    names = list(target.features or (f"e{i}" for i in range(target.dim)))
    return [*names, *(f"{name}_{matrix}" for matrix in target.matrices for name in names), *of_tables]


def _tables(target: Target) -> list[Table]:
    """The tables that are written: vectors of a modality only beside those of the cells."""
    return [table for table in target.tables if target.with_vectors or table.what != "embedding"]


def _texts(column: Column, part: Part) -> list[str]:
    """A column's values as text, empty for none."""
    values = part.columns[column.name]
    if column.words:
        words = [*column.words, ""]  # -1 is the last of them
        return [words[code] for code in values.tolist()]
    numbers: list[str] = np.where(np.isnan(values), "", values.astype("U16")).tolist()
    return numbers
