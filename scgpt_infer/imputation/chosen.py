"""Some cells of a source, as a source of their own.

In: an open source and the names of cells. Out: a `CellSource` of those cells in the order of the source. It reads
nothing but what the source reads.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers import CellSource
from scgpt_infer.readers.source import Stored
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import CellsError

__all__ = ["ChosenCells", "rows_of"]

_SHOWN = 5


def rows_of(source: CellSource, names: Sequence[str]) -> NDArray[np.int64]:
    """Rows of the cells with these names, ascending; all of them, where several cells have one name.

    Raises
    ------
    CellsError
        No cell has one of the names.
    """
    there = np.array(source.cell_names(0, source.n_cells), object)
    missing = sorted(set(names) - set(there.tolist()))
    if missing:
        shown = ", ".join(missing[:_SHOWN]) + (f" and {len(missing) - _SHOWN:,} more" if len(missing) > _SHOWN else "")
        raise CellsError(
            f"There is no cell named {shown}. The first cells are {', '.join(map(str, there[:_SHOWN]))}. Give names as "
            "they stand in the file (--cells, cells)."
        )
    return np.flatnonzero(np.isin(there, list(names)))


class ChosenCells:
    """Some rows of a source; see `CellSource` for what each name tells."""

    def __init__(self, source: CellSource, rows: NDArray[np.int64]) -> None:
        self._source = source
        self.rows = rows
        self.path: Path | None = None  # no output is a copy of the file: it holds these cells alone
        self.n_cells = len(rows)
        self.n_genes = source.n_genes
        self.counts, self.values, self.why = source.counts, source.values, source.why

    @property
    def gene_names(self) -> Mapping[str, Sequence[str]]:
        """Those of the source."""
        return self._source.gene_names

    def gene_column(self, name: str) -> Sequence[str]:
        """As the source has it."""
        return self._source.gene_column(name)

    def cell_names(self, start: int, stop: int) -> list[str]:
        """Names of these cells."""
        if start >= stop:
            return []
        first, last = int(self.rows[start]), int(self.rows[stop - 1])
        names = self._source.cell_names(first, last + 1)
        return [names[row - first] for row in self.rows[start:stop].tolist()]

    @property
    def cell_columns(self) -> tuple[str, ...]:
        """Those of the source."""
        return self._source.cell_columns

    def cell_column(self, name: str) -> NDArray[np.str_]:
        """Values of these cells."""
        return self._source.cell_column(name)[self.rows]

    def stored(self, key: str) -> Stored | None:
        """Nothing: what lies with the file is of all its cells."""
        return None

    def blocks(self, range_rows: int, stop: int | None = None) -> Iterator[CellBlock]:
        """These cells in order, in blocks of `range_rows`."""
        rows = self.rows[:stop]
        waiting: list[tuple[NDArray[np.int32], NDArray[np.float32]]] = []
        first = 0
        last = int(rows[-1]) + 1 if len(rows) else 0
        for block in self._source.blocks(range_rows, last):
            own = rows[(rows >= block.first_row) & (rows < block.first_row + block.n_cells)] - block.first_row
            for cell in own.tolist():
                stored = slice(block.indptr[cell], block.indptr[cell + 1])
                waiting.append((block.indices[stored], block.data[stored]))
            while len(waiting) >= range_rows:
                yield _block(waiting[:range_rows], first)
                waiting, first = waiting[range_rows:], first + range_rows
        if waiting:
            yield _block(waiting, first)

    def sample(self, n: int = 1000) -> CellBlock:
        """Cells of the source: what its values are does not depend on which of them are wanted."""
        return self._source.sample(n)

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _block(cells: Sequence[tuple[NDArray[np.int32], NDArray[np.float32]]], first_row: int) -> CellBlock:
    indptr = np.concatenate([[0], np.cumsum([len(indices) for indices, _ in cells])]).astype(np.int64)
    indices, data = (np.concatenate(arrays) for arrays in zip(*cells, strict=True))
    return CellBlock(indptr, indices, data, first_row)
