"""``.parquet``: one table of `scgpt_infer.writers.arrow`; pandas reads words as categories.

A row group is many parts: the file's end tells of each, and is in memory until it is written. The run's facts are
JSON in the file's metadata under ``scgpt_infer``. Needs pyarrow, asked for before the first cell.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scgpt_infer.writers import arrow
from scgpt_infer.writers.sink import Part, Record, Sink, Target, beside, output_errors, sync

__all__ = ["bytes_needed", "open_parquet"]

_GROUP_ROWS = 16_384
_GROUP_BYTES = 32 << 20
_LEAST_ROWS = 512  # in each group but the last
_COLUMN_BYTES = 300  # of each group: what the file's end tells of a column


def bytes_needed(target: Target) -> int:
    """Room for the table and what its end tells."""
    words = sum(len(word.encode()) for column in target.columns for word in column.words)
    groups = 1 + target.n_cells // _LEAST_ROWS
    ends = groups * (words + _COLUMN_BYTES * (3 + len(target.columns)))
    return target.n_cells * arrow.row_bytes(target) + ends + 4096


@contextmanager
def open_parquet(target: Target) -> Iterator[Sink]:
    """Open a sink for a ``.parquet`` file.

    Raises
    ------
    MissingDependencyError
        When pyarrow is not installed.
    """
    arrow.require(".parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = arrow.schema_of(target)
    with beside(target.path) as temporary:
        with output_errors(target.path):
            writer = pq.ParquetWriter(temporary, schema, compression="zstd", use_dictionary=arrow.repeated(target))
        try:
            yield ParquetSink(target, temporary, schema, writer)
        finally:
            with suppress(OSError, pa.ArrowException):  # after a failed write, closing fails in the same way
                writer.close()


@dataclass(frozen=True, slots=True)
class ParquetSink:
    """Gathers parts, and writes them as a row group."""

    target: Target
    temporary: Path
    schema: Any
    writer: Any
    waiting: list[Any] = field(default_factory=list)

    def write(self, part: Part) -> None:
        """Take the next rows."""
        rows = arrow.rows_of(self.target, part, self.schema)
        self.waiting.append(rows)
        n_rows = sum(one.num_rows for one in self.waiting)
        if n_rows >= _GROUP_ROWS or n_rows * arrow.row_bytes(self.target) >= _GROUP_BYTES:
            with output_errors(self.target.path):
                self._write_group()

    def commit(self, record: Record) -> None:
        """Add the facts, close the table and give it its name."""
        with output_errors(self.target.path):
            self._write_group()
            self.writer.add_key_value_metadata(arrow.facts(record))
            self.writer.close()
            sync(self.temporary, self.target.path)

    def _write_group(self) -> None:
        import pyarrow as pa

        if self.waiting:
            self.writer.write_table(pa.concat_tables(self.waiting))
            self.waiting.clear()
