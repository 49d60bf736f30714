"""What every source of cells can do, whatever it is stored in.

Rows are read by ranges of a fixed grid; names are read when they are asked for. A source knows
nothing of vocabularies, models or results.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from scgpt_runtime.cells import CellBlock

__all__ = ["CellSource"]


class CellSource(Protocol):
    """Cells of one file or object, of which one matrix is read."""

    @property
    def path(self) -> Path | None:
        """The file, or None for an object in memory."""
        ...

    @property
    def n_cells(self) -> int:
        """Rows of the matrix."""
        ...

    @property
    def n_genes(self) -> int:
        """Columns of the matrix that is read; those of ``raw`` are its own."""
        ...

    @property
    def counts(self) -> str:
        """The matrix that is read: ``"X"``, ``"layers/NAME"`` or ``"raw/X"``."""
        ...

    @property
    def values(self) -> str:
        """What its values are, recognised from sampled rows: ``"integer"``, ``"log1p"`` or ``"normalised"``."""
        ...

    @property
    def why(self) -> str:
        """Why this matrix is read, in words for the summary."""
        ...

    @property
    def gene_names(self) -> Mapping[str, Sequence[str]]:
        """Gene names by the column they stand in, read when taken.

        Of ``feature_name``, ``gene_symbols``, ``gene_name`` and ``gene_ids`` those that exist, then
        ``index``, then the columns that `gene_column` was asked for.
        """
        ...

    def gene_column(self, name: str) -> Sequence[str]:
        """Gene names of any column; it stands in `gene_names` from then on."""
        ...

    def cell_names(self, start: int, stop: int) -> list[str]:
        """Names of the cells of rows ``start`` to ``stop``."""
        ...

    def blocks(self, range_rows: int, stop: int | None = None) -> Iterator[CellBlock]:
        """The cells in order, in blocks of ``range_rows`` from row 0, the last one shorter; up to row ``stop``."""
        ...

    def sample(self, n: int = 1000) -> CellBlock:
        """About ``n`` cells spread evenly over all rows, the same ones each time."""
        ...

    def close(self) -> None:
        """Give back files; the source cannot be read afterwards."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
