"""Some rows of a source of cells, as a source of its own.

In: an open source and rows. Out: the same cells by every call of `CellSource`. It computes nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.labelled import joined, taken
from scgpt_infer.readers import CellSource
from scgpt_infer.readers.source import Stored
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.ranges import RANGE_ROWS

__all__ = ["SomeRows"]


@dataclass(frozen=True, slots=True)
class SomeRows:
    """Some cells of a source. What is said of genes and counts is the source's.

    Attributes
    ----------
    source
        Open cells. Closing these closes it.
    rows
        (n_cells,) rows of the source, ascending.
    of_file
        Whether `path` names the source's file. Not, where an output shall hold these cells alone and be no copy of it.
    """

    source: CellSource
    rows: NDArray[np.int64]
    of_file: bool = True

    @property
    def path(self) -> Path | None:
        """The source's file; None where these cells are not to be taken for it."""
        return self.source.path if self.of_file else None

    @property
    def n_cells(self) -> int:
        """Number of rows."""
        return len(self.rows)

    @property
    def n_genes(self) -> int:
        """Columns of the matrix."""
        return self.source.n_genes

    @property
    def counts(self) -> str:
        """The matrix that is read."""
        return self.source.counts

    @property
    def values(self) -> str:
        """What the source's values are."""
        return self.source.values

    @property
    def why(self) -> str:
        """Why this matrix is read."""
        return self.source.why

    @property
    def gene_names(self) -> Mapping[str, Sequence[str]]:
        """Gene names by the column they stand in."""
        return self.source.gene_names

    def gene_column(self, name: str) -> Sequence[str]:
        """Gene names of any column."""
        return self.source.gene_column(name)

    def cell_names(self, start: int, stop: int) -> list[str]:
        """Names of some of the cells."""
        rows = self.rows[start:stop]
        if not len(rows):
            return []
        names = self.source.cell_names(int(rows[0]), int(rows[-1]) + 1)
        return [names[row] for row in (rows - rows[0]).tolist()]

    @property
    def cell_columns(self) -> tuple[str, ...]:
        """Names of the columns of ``obs``."""
        return self.source.cell_columns

    def cell_column(self, name: str) -> NDArray[np.str_]:
        """A column of ``obs`` as text."""
        return self.source.cell_column(name)[self.rows]

    def stored(self, key: str) -> Stored | None:
        """The embedding that lies with the cells."""
        found = self.source.stored(key)
        return found and replace(found, n_cells=self.n_cells, read=self._spread(found.read))

    def _spread(self, read: Callable[[int, int], NDArray[np.float32]]) -> Callable[[int, int], NDArray[np.float32]]:
        def some(start: int, stop: int) -> NDArray[np.float32]:
            rows = self.rows[start:stop]
            first = int(rows[0])
            return read(first, int(rows[-1]) + 1)[rows - first]

        return some

    def blocks(self, spans: Iterable[range]) -> Iterator[CellBlock]:
        """The cells of each span of rows, which count from 0 whatever rows the source has them in."""
        for span in spans:
            rows = self.rows[span.start : span.stop]
            pieces = np.split(rows, np.flatnonzero(np.diff(rows // RANGE_ROWS)) + 1)
            around = [range(int(piece[0]), int(piece[-1]) + 1) for piece in pieces]
            read = zip(pieces, self.source.blocks(around), strict=True)
            parts = [taken(block, piece - block.first_row) for piece, block in read]
            yield replace(joined(parts), first_row=span.start)

    def sample(self, n: int = 1000) -> CellBlock:
        """Cells spread over all rows of the source."""
        return self.source.sample(n)

    def close(self) -> None:
        """Close the source."""
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
