"""Cells of a format that has one matrix and names, and nothing else: no obs, no layers, no embeddings.

Rows and names come in, a `CellSource` is what they become. It knows nothing of how the file was written.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers import matrix
from scgpt_infer.readers.counts import Counts
from scgpt_infer.readers.matrix import Rows
from scgpt_infer.readers.names import INDEX, GeneNames, cell_text, no_column
from scgpt_infer.readers.source import Stored
from scgpt_infer.readers.unchanged import Unchanged
from scgpt_runtime.cells import CellBlock

__all__ = ["BareCells"]


class BareCells:
    """A `CellSource` over one matrix.

    Parameters
    ----------
    path
        The file or folder.
    counts
        The matrix, as `scgpt_infer.readers.counts.choose` gives it.
    cell_names
        Gives the names of the cells of rows start to stop.
    gene_names
        Names of the genes.
    why
        What the matrix is, in words.
    close
        Gives back what the rows and names are read from.
    """

    def __init__(
        self,
        path: Path,
        counts: Counts,
        cell_names: Callable[[int, int], list[str]],
        gene_names: GeneNames,
        why: str,
        close: Callable[[], None],
    ) -> None:
        self.path: Path | None = path
        self._same = Unchanged(path)
        self._rows, self._cell_names, self._close = counts.rows, cell_names, close
        self.counts, self.values, self.why = counts.name, counts.values, why
        self.n_cells, self.n_genes = counts.rows.shape
        self.cell_columns: tuple[str, ...] = ()
        self.gene_names = gene_names

    @property
    def rows(self) -> Rows:
        """The matrix that is read."""
        return self._rows

    @property
    def beside(self) -> tuple[Any, Any]:
        """No ``obsm`` and no ``uns``."""
        return None, None

    def gene_column(self, name: str) -> Sequence[str]:
        """Gene names of a column of the features; a table has no more than its one row or column of names."""
        return self.gene_names.ask(name)

    def cell_names(self, start: int, stop: int) -> list[str]:
        """Names of the cells of rows ``start`` to ``stop``."""
        return self._cell_names(start, stop)

    def cell_column(self, name: str) -> NDArray[np.str_]:
        """The names of the cells, for ``"index"``: nothing else is said of them."""
        if name != INDEX:
            raise no_column(f"obs of {self.path}", name, ())
        return cell_text(self.cell_names(0, self.n_cells))

    def stored(self, key: str) -> Stored | None:
        """None: such a file holds no embedding."""
        return None

    def blocks(self, spans: Iterable[range]) -> Iterator[CellBlock]:
        """The cells of each span of rows."""
        return matrix.blocks(self._rows, spans, self._same)

    def sample(self, n: int = 1000) -> CellBlock:
        """About ``n`` cells spread evenly over the file."""
        return matrix.sample(self._rows, n)

    def close(self) -> None:
        """Give back files."""
        self._rows.close()
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
