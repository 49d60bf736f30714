"""``.parquet``: ``cell``, what is told of it, ``embedding`` (fixed_size_list<float32>[dim]), ``error`` (null or why).

Where the numbers of a vector have names, each is a column instead. Words are a dictionary, which pandas reads as
categories. The run's facts are JSON in the file's metadata under ``scgpt_infer``. Needs pyarrow, asked for before the
first cell.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scgpt_infer.writers.sink import (
    Column,
    Part,
    Record,
    Sink,
    Target,
    beside,
    matrix_of,
    output_errors,
    record_json,
    sync,
    table_of,
)
from scgpt_runtime.errors import MissingDependencyError

__all__ = ["bytes_needed", "open_parquet"]

_NAME_BYTES = 32
_GROUP_ROWS = 512  # at least as many in each group but the last
_COLUMN_BYTES = 300  # of each group: what the file's end tells of a column


def bytes_needed(target: Target) -> int:
    """Room for the table; unit vectors hardly compress."""
    vectors = target.dim * (1 + len(target.matrices)) * 4 if target.with_vectors else 0
    vectors += sum(table.width for table in target.tables) * 4
    words = sum(len(word.encode()) for column in target.columns for word in column.words)
    groups = 1 + target.n_cells // _GROUP_ROWS
    rows = target.n_cells * (vectors + 4 * len(target.columns) + _NAME_BYTES)
    return rows + groups * (words + _COLUMN_BYTES * (3 + len(target.columns))) + 4096


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
    kinds = {True: pa.dictionary(pa.int32(), pa.string()), False: pa.float32()}
    columns = [(column.name, kinds[bool(column.words)]) for column in target.columns]
    vectors = [(name, pa.float32()) for name in _feature_names(target)]
    if target.with_vectors and not target.features:
        vectors = [("embedding", pa.list_(pa.float32(), target.dim))]
    for table in target.tables:
        if table.features:
            vectors += [(head, pa.float32()) for head in table.heads]
        elif target.with_vectors:
            vectors.append((f"{table.name}:embedding", pa.list_(pa.float32(), table.width)))
    errors = [("error", pa.string())] if target.row == "cell" else []
    schema = pa.schema([(target.row, pa.string()), *columns, *vectors, *errors])
    repeated = [*(name for name, _ in errors), *(column.name for column in target.columns if column.words)]
    with beside(target.path) as temporary:
        with output_errors(target.path):
            writer = pq.ParquetWriter(temporary, schema, compression="zstd", use_dictionary=repeated)
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
        arrays = [pa.array(names, pa.string()), *(_array(column, part) for column in self.target.columns)]
        if self.target.features:
            matrices = [part.vectors, *(matrix_of(part, name) for name in self.target.matrices)]
            arrays += [pa.array(numbers, mask=np.isnan(numbers)) for matrix in matrices for numbers in matrix.T]
        elif self.target.with_vectors:
            arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(part.vectors.ravel()), self.target.dim))
        for table in self.target.tables:
            found = table_of(part, table)
            if table.features:
                arrays += [pa.array(numbers, mask=np.isnan(numbers)) for numbers in found.T]
            elif self.target.with_vectors:
                arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(found.ravel()), table.width))
        if self.target.row == "cell":
            arrays.append(pa.array([reason or None for reason in part.reasons], pa.string()))
        with output_errors(self.target.path):
            self.writer.write_table(pa.Table.from_arrays(arrays, schema=self.schema))

    def commit(self, record: Record) -> None:
        """Add the facts, close the table and give it its name."""
        with output_errors(self.target.path):
            self.writer.add_key_value_metadata({"scgpt_infer": record_json(record).decode()})
            self.writer.close()
            sync(self.temporary, self.target.path)


def _feature_names(target: Target) -> list[str]:
    names = list(target.features)
    return names + [f"{name}_{matrix}" for matrix in target.matrices for name in names]


def _array(column: Column, part: Part) -> Any:
    """A column's values, null for none."""
    import pyarrow as pa

    values = part.columns[column.name]
    if not column.words:
        return pa.array(values, pa.float32(), mask=np.isnan(values))
    return pa.DictionaryArray.from_arrays(pa.array(values, pa.int32(), mask=values < 0), list(column.words))
