"""Into memory: the result as arrays, for callers that hold the cells in memory too."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.writers.sink import Column, Part, Record, Table, matrix_of, no_values, table_of

__all__ = ["MemorySink"]


@dataclass(frozen=True, slots=True)
class MemorySink:
    """Keeps rows in arrays.

    Attributes
    ----------
    vectors
        (n_cells, dim) float32; None when they are not kept.
    columns
        Values by the name of their column, (n_cells,) each.
    record
        The facts of the run, when it is done.
    matrices
        Further matrices by name, (n_cells, dim) each.
    tables
        Further tables, with what they hold: (n_cells, width) each.
    """

    vectors: NDArray[np.float32] | None
    columns: dict[str, NDArray[Any]]
    record: dict[str, str | int | float]
    matrices: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    tables: dict[Table, NDArray[np.float32]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        n_cells: int,
        dim: int | None,
        columns: Sequence[Column] = (),
        matrices: Sequence[str] = (),
        tables: Sequence[Table] = (),
    ) -> Self:
        """Room for so many cells; without `dim`, for no vectors."""
        vectors = None if dim is None else np.full((n_cells, dim), np.nan, np.float32)
        others = {name: np.full((n_cells, dim or 0), np.nan, np.float32) for name in matrices}
        rooms = {table: np.full((n_cells, table.width), np.nan, np.float32) for table in tables}
        return cls(vectors, no_values(columns, n_cells), {}, others, rooms)

    def write(self, part: Part) -> None:
        """Take the next rows."""
        rows = slice(part.first_row, part.first_row + part.n_cells)
        if self.vectors is not None:
            self.vectors[rows] = part.vectors
        for name, values in self.columns.items():
            values[rows] = part.columns[name]
        for name, numbers in self.matrices.items():
            numbers[rows] = matrix_of(part, name)
        for table, numbers in self.tables.items():
            numbers[rows] = table_of(part, table)

    def commit(self, record: Record) -> None:
        """Take the facts of the run."""
        self.record.update(record)
