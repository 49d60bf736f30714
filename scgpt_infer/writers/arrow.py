"""Rows of a result as Arrow: `schema_of` a `Target`, and `rows_of` each part; `facts` are the run's in the metadata.

``cell``, what is told of it, ``embedding`` (fixed_size_list<float>[dim]) and ``error`` (null or why); where the numbers
of a vector have names, each is a column instead. Words are a dictionary. It knows no file; pyarrow is imported late.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.writers.sink import Column, Part, Record, Target, matrix_of, record_json, table_of
from scgpt_runtime.errors import MissingDependencyError

__all__ = ["FACTS", "facts", "repeated", "require", "row_bytes", "rows_of", "schema_of"]

FACTS = "scgpt_infer"
"""Key of the run's facts in the metadata."""

_NAME_BYTES = 32


def require(suffix: str) -> None:
    """Make sure that pyarrow is there.

    Raises
    ------
    MissingDependencyError
        When it is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401, `pa.parquet` is there only when it was imported
    except ImportError as error:
        raise MissingDependencyError(
            f'Writing {suffix} needs pyarrow, which is not installed: pip install "scgpt-infer[parquet]".'
        ) from error


def row_bytes(target: Target) -> int:
    """Most bytes of a row; unit vectors hardly compress."""
    vectors = target.dim * (1 + len(target.matrices)) * target.itemsize if target.with_vectors else 0
    vectors += sum(table.width for table in target.tables) * target.itemsize
    return vectors + 4 * len(target.columns) + _NAME_BYTES


def facts(record: Record) -> dict[str, str]:
    """The facts of a run as metadata."""
    return {FACTS: record_json(record).decode()}


def schema_of(target: Target) -> Any:
    """The columns of a table with the result."""
    import pyarrow as pa

    number = pa.float16() if target.dtype == "float16" else pa.float32()
    kinds = {True: pa.dictionary(pa.int32(), pa.string()), False: pa.float32()}
    columns = [(column.name, kinds[bool(column.words)]) for column in target.columns]
    vectors = [(name, number) for name in _feature_names(target)]
    if target.with_vectors and not target.features:
        vectors = [("embedding", pa.list_(number, target.dim))]
    for table in target.tables:
        if table.features:
            vectors += [(head, number) for head in table.heads]
        elif target.with_vectors:
            vectors.append((f"{table.name}:embedding", pa.list_(number, table.width)))
    return pa.schema([(target.row, pa.string()), *columns, *vectors, *_errors(target)])


def repeated(target: Target) -> list[str]:
    """Names of the columns whose values come again and again."""
    return [*(name for name, _ in _errors(target)), *(column.name for column in target.columns if column.words)]


def rows_of(target: Target, part: Part, schema: Any) -> Any:
    """A part as a table."""
    import pyarrow as pa

    names = target.names(part.first_row, part.first_row + part.n_cells)
    arrays = [pa.array(names, pa.string()), *(_told(column, part) for column in target.columns)]
    if target.features:
        for matrix in (part.vectors, *(matrix_of(part, name) for name in target.matrices)):
            arrays += _columns(target.stored(matrix))
    elif target.with_vectors:
        arrays.append(_lists(target.stored(part.vectors)))
    for table in target.tables:
        if table.features:
            arrays += _columns(target.stored(table_of(part, table)))
        elif target.with_vectors:
            arrays.append(_lists(target.stored(table_of(part, table))))
    if target.row == "cell":
        arrays.append(pa.array([reason or None for reason in part.reasons], pa.string()))
    return pa.Table.from_arrays(arrays, schema=schema)


def _columns(numbers: NDArray[Any]) -> list[Any]:
    """A column for each number of a row, null for NaN."""
    import pyarrow as pa

    return [pa.array(column, mask=np.isnan(column)) for column in numbers.T]


def _lists(numbers: NDArray[Any]) -> Any:
    """One column of vectors."""
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), numbers.shape[1])


def _told(column: Column, part: Part) -> Any:
    """A column's values, null for none."""
    import pyarrow as pa

    values = part.columns[column.name]
    if not column.words:
        return pa.array(values, pa.float32(), mask=np.isnan(values))
    return pa.DictionaryArray.from_arrays(pa.array(values, pa.int32(), mask=values < 0), list(column.words))


def _errors(target: Target) -> list[tuple[str, Any]]:
    import pyarrow as pa

    return [("error", pa.string())] if target.row == "cell" else []


def _feature_names(target: Target) -> list[str]:
    names = list(target.features)
    return names + [f"{name}_{matrix}" for matrix in target.matrices for name in names]
