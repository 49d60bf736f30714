"""``.csv``: columns ``cell``, ``e0``, ``e1``, ..., ``error``; the run in ``x.csv.json``.

Nine digits bring every float32 back bit for bit. A cell without an embedding has empty fields and its reason.
"""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from scgpt_infer.writers.sink import (
    Part,
    Record,
    Sink,
    Target,
    beside,
    output_errors,
    record_json,
    sync_together,
    write_all,
)

__all__ = ["BESIDE", "bytes_needed", "open_csv"]

BESIDE = (".csv.json",)
"""Suffixes of the files that lie beside the table."""

_NAME_BYTES = 32
_NUMBER_BYTES = 15  # sign, point, nine digits, exponent, comma


def bytes_needed(target: Target) -> int:
    """Room for the table, every number at its longest."""
    return target.n_cells * (target.dim * _NUMBER_BYTES + _NAME_BYTES) + 4096


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
        sink.append([["cell", *(f"e{i}" for i in range(target.dim)), "error"]])
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
        missing = [""] * self.target.dim
        self.append(
            [name, *(missing if reason else map("%.9g".__mod__, vector)), reason]
            for name, vector, reason in zip(names, part.vectors.tolist(), part.reasons, strict=True)
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
