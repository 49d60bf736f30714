"""``.parquet``: columns ``cell``, ``embedding`` (fixed_size_list<float32>[dim]) and ``error`` (null or the reason).

The run's facts are JSON in the file's metadata under ``scgpt_infer``. Needs pyarrow, asked for before the first cell.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scgpt_infer.writers.sink import Part, Record, Sink, Target, beside, output_errors, record_json, sync
from scgpt_runtime.errors import MissingDependencyError

__all__ = ["bytes_needed", "open_parquet"]

_NAME_BYTES = 32


def bytes_needed(target: Target) -> int:
    """Room for the table; unit vectors hardly compress."""
    return target.n_cells * (target.dim * 4 + _NAME_BYTES) + 4096


@contextmanager
def open_parquet(target: Target) -> Iterator[Sink]:
    """Open a sink for a ``.parquet`` file.

    Raises
    ------
    MissingDependencyError
        When pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingDependencyError(
            'Writing .parquet needs pyarrow, which is not installed: pip install "scgpt-infer[parquet]".'
        ) from error
    schema = pa.schema(
        [("cell", pa.string()), ("embedding", pa.list_(pa.float32(), target.dim)), ("error", pa.string())]
    )
    with beside(target.path) as temporary:
        with output_errors(target.path):
            writer = pq.ParquetWriter(temporary, schema, compression="zstd", use_dictionary=["error"])
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
        import pyarrow as pa

        names = self.target.names(part.first_row, part.first_row + part.n_cells)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(part.vectors.ravel()), self.target.dim)
        errors = pa.array([reason or None for reason in part.reasons], pa.string())
        with output_errors(self.target.path):
            columns = [pa.array(names, pa.string()), vectors, errors]
            self.writer.write_table(pa.Table.from_arrays(columns, schema=self.schema))

    def commit(self, record: Record) -> None:
        """Add the facts, close the table and give it its name."""
        with output_errors(self.target.path):
            self.writer.add_key_value_metadata({"scgpt_infer": record_json(record).decode()})
            self.writer.close()
            sync(self.temporary, self.target.path)
