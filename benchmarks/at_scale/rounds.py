"""A file of cells that is read again and again: a source of millions of rows for which the disk has no room.

In: an open source, of a whole number of the engine's ranges. Out: as many rows as are asked for; row i is row i modulo
the rows of the file. After the first round the bytes of a file come from the memory of the system, if they fit.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers import CellSource
from scgpt_infer.readers.source import Stored
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import CellsError
from scgpt_runtime.ranges import RANGE_ROWS

__all__ = ["Rounds"]


class Rounds:
    """The rows of a source, round after round.

    Parameters
    ----------
    once
        The source; it is closed with this one.
    n_cells
        Rows in all.

    Raises
    ------
    CellsError
        If a range would hold the end of one round and the beginning of the next.
    """

    path: Path | None = None
    cell_columns: tuple[str, ...] = ()

    def __init__(self, once: CellSource, n_cells: int) -> None:
        if once.n_cells % RANGE_ROWS:
            raise CellsError(f"{once.n_cells} rows are read in rounds; expected a multiple of {RANGE_ROWS}.")
        self._once = once
        self.n_cells, self.n_genes = n_cells, once.n_genes
        self.counts, self.values, self.why = once.counts, once.values, once.why
        self.gene_names: Mapping[str, Sequence[str]] = once.gene_names

    def gene_column(self, name: str) -> Sequence[str]:
        """Gene names of any column."""
        return self._once.gene_column(name)

    def cell_names(self, start: int, stop: int) -> list[str]:
        """Names of the rows of the file, which come again in each round."""
        rows = self._within(range(start, stop))
        return self._once.cell_names(rows.start, rows.stop)

    def cell_column(self, name: str) -> NDArray[np.str_]:
        """Nothing but names is told of the cells."""
        raise CellsError(f"Cells that are read in rounds have no column {name!r}.")

    def stored(self, key: str) -> Stored | None:
        """No embedding is taken from the file."""
        return None

    def blocks(self, spans: Iterable[range]) -> Iterator[CellBlock]:
        """The cells of each span of rows."""
        asked: list[range] = []

        def within() -> Iterator[range]:
            for span in spans:
                asked.append(span)
                yield self._within(span)

        for block in self._once.blocks(within()):
            yield replace(block, first_row=asked.pop(0).start)

    def sample(self, n: int = 1000) -> CellBlock:
        """About ``n`` cells of the file."""
        return self._once.sample(n)

    def close(self) -> None:
        """Close the file."""
        self._once.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _within(self, span: range) -> range:
        start = span.start % self._once.n_cells
        return range(start, start + len(span))
