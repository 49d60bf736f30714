"""``.parquet``: one table of `scgpt_infer.writers.arrow`, a row group a part; pandas reads words as categories.

The run's facts are JSON in the file's metadata under ``scgpt_infer``. Needs pyarrow, asked for before the first cell.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scgpt_infer.writers import arrow
from scgpt_infer.writers.sink import Part, Record, Sink, Target, beside, output_errors, sync

__all__ = ["bytes_needed", "open_parquet"]

_GROUP_ROWS = 512  # at least as many in each group but the last
_COLUMN_BYTES = 300  # of each group: what the file's end tells of a column


def bytes_needed(target: Target) -> int:
    """Room for the table and what its end tells."""
    words = sum(len(word.encode()) for column in target.columns for word in column.words)
    groups = 1 + target.n_cells // _GROUP_ROWS
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
    """Writes one row group a part."""

    target: Target
    temporary: Path
    schema: Any
    writer: Any

    def write(self, part: Part) -> None:
        """Take the next rows."""
        rows = arrow.rows_of(self.target, part, self.schema)
        with output_errors(self.target.path):
            self.writer.write_table(rows)

    def commit(self, record: Record) -> None:
        """Add the facts, close the table and give it its name."""
        with output_errors(self.target.path):
            self.writer.add_key_value_metadata(arrow.facts(record))
            self.writer.close()
            sync(self.temporary, self.target.path)
