"""``.dataset``: a folder of Parquet files with the table of `scgpt_infer.writers.arrow`, a row group a part.

Each file tells its first row and its rows in its metadata; the run's facts are in ``_scgpt_infer.json``, and with the
columns in ``_common_metadata``. Readers of data sets skip names that begin with an underscore. Needs pyarrow.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scgpt_infer.writers import arrow
from scgpt_infer.writers.folder import Stage, staged
from scgpt_infer.writers.sink import Part, Record, Sink, Target, output_errors, record_json

__all__ = ["RECORD", "bytes_needed", "is_ours", "open_dataset"]

RECORD = "_scgpt_infer.json"
"""The file with the facts of the run."""

_COMMON = "_common_metadata"
_PART = re.compile(r"part-\d{5,}\.parquet")
_FILE_BYTES = 128 << 20
_LEAST_ROWS = 64 * 1024  # 64 ranges: smaller files are many files
_COLUMN_BYTES = 300  # of each row group: what a file's end tells of a column
_GROUP_ROWS = 512  # at least as many in each row group but the last


def bytes_needed(target: Target) -> int:
    """Room for all files and what their ends tell."""
    words = sum(len(word.encode()) for column in target.columns for word in column.words)
    groups = 1 + target.n_cells // _GROUP_ROWS
    ends = groups * (words + _COLUMN_BYTES * (3 + len(target.columns)))
    return target.n_cells * arrow.row_bytes(target) + ends + 65536


def is_ours(folder: Path) -> bool:
    """Whether a folder holds nothing but a data set of ours."""
    names = [path.name for path in folder.iterdir()]
    ours = all(name in (RECORD, _COMMON) or _PART.fullmatch(name) for name in names)
    return ours and RECORD in names


@contextmanager
def open_dataset(target: Target) -> Iterator[Sink]:
    """Open a sink for a folder of Parquet files.

    Raises
    ------
    MissingDependencyError
        When pyarrow is not installed.
    """
    arrow.require(".dataset")
    rows = max(_LEAST_ROWS, _FILE_BYTES // arrow.row_bytes(target) // 1024 * 1024)
    with staged(target.path, is_ours) as stage:
        sink = DatasetSink(target, stage, arrow.schema_of(target), rows)
        try:
            yield sink
        finally:
            sink.give_up()


@dataclass(slots=True)
class DatasetSink:
    """Writes one row group a part, and begins a new file where one is full."""

    target: Target
    stage: Stage
    schema: Any
    rows: int
    writer: Any = None
    first: int = 0
    done: int = 0
    files: int = 0

    def write(self, part: Part) -> None:
        """Take the next rows."""
        rows = arrow.rows_of(self.target, part, self.schema)
        with output_errors(self.target.path):
            if self.writer is None:
                self._begin(part.first_row)
            self.writer.write_table(rows)
            self.done = part.first_row + part.n_cells
            if self.done - self.first >= self.rows:
                self._end()

    def commit(self, record: Record) -> None:
        """Close the last file, add the facts and give the folder its name."""
        import pyarrow.parquet as pq

        with output_errors(self.target.path):
            self._end()
            pq.write_metadata(self.schema.with_metadata(arrow.facts(record)), self.stage.folder / _COMMON)
            (self.stage.folder / RECORD).write_bytes(record_json(record))
            self.stage.publish()

    def give_up(self) -> None:
        """Close a file that is left open; after a failed write, closing fails in the same way."""
        from pyarrow import ArrowException

        if self.writer is not None:
            with suppress(OSError, ArrowException):
                self.writer.close()

    def _begin(self, first: int) -> None:
        import pyarrow.parquet as pq

        name = f"part-{self.files:05}.parquet"
        self.writer = pq.ParquetWriter(
            self.stage.folder / name, self.schema, compression="zstd", use_dictionary=arrow.repeated(self.target)
        )
        self.first, self.files = first, self.files + 1

    def _end(self) -> None:
        if self.writer is None:
            return
        told = {"first_row": self.first, "n_cells": self.done - self.first, "of": self.target.n_cells}
        self.writer.add_key_value_metadata({"scgpt_infer_rows": json.dumps(told)})
        self.writer.close()
        self.writer = None
