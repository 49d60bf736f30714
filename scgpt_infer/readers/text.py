"""Cells of a text format that was read once: the numbers lie in temporary files, and rows are read from there.

Rows and names come in, a `CellSource` is what they become. It knows nothing of how the text was written.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers import matrix
from scgpt_infer.readers.counts import choose
from scgpt_infer.readers.matrix import Rows
from scgpt_infer.readers.names import INDEX, GeneNames, cell_text, no_column
from scgpt_infer.readers.source import Stored
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import CellsError

__all__ = ["TextCells", "refuse_layer"]

SHOWN = 3


class TextCells:
    """A `CellSource` over rows that were read from text.

    Parameters
    ----------
    path
        The file or folder.
    rows
        The numbers; `close` closes them.
    cells
        Names of the cells.
    genes
        Names of the genes by column; ``"index"`` is one of them.
    why
        What the matrix is, in words.
    close
        Removes what the rows are read from.

    Raises
    ------
    CellsError
        If two cells have one name, or the values are scaled.
    """

    def __init__(
        self,
        path: Path,
        rows: Rows,
        cells: Sequence[str],
        genes: Mapping[str, Sequence[str]],
        why: str,
        close: Callable[[], None],
    ) -> None:
        _check_unique(cells, path)
        self.path: Path | None = path
        counts = choose({"X": lambda: rows}, None, False, str(path))
        self._rows, self._cells, self._close = rows, cells, close
        self.counts, self.values, self.why = counts.name, counts.values, why
        self.n_cells, self.n_genes = rows.shape
        self.cell_columns: tuple[str, ...] = ()
        columns = [name for name in genes if name != INDEX]
        self.gene_names = GeneNames(columns, lambda name: list(genes[name]), str(path))

    def gene_column(self, name: str) -> Sequence[str]:
        """Gene names of a column of the features; a table has no more than its one row or column of names."""
        return self.gene_names.ask(name)

    def cell_names(self, start: int, stop: int) -> list[str]:
        """Names of the cells of rows ``start`` to ``stop``."""
        return list(self._cells[start:stop])

    def cell_column(self, name: str) -> NDArray[np.str_]:
        """The names of the cells, for ``"index"``: nothing else is said of them."""
        if name != INDEX:
            raise no_column(str(self.path), name, ())
        return cell_text(self._cells)

    def stored(self, key: str) -> Stored | None:
        """None: text holds no embedding."""
        return None

    def blocks(self, range_rows: int, stop: int | None = None) -> Iterator[CellBlock]:
        """The cells in order, in blocks of ``range_rows`` from row 0, up to row ``stop``."""
        return matrix.blocks(self._rows, range_rows, stop)

    def sample(self, n: int = 1000) -> CellBlock:
        """About ``n`` cells spread evenly over the file."""
        return matrix.sample(self._rows, n)

    def close(self) -> None:
        """Remove the temporary files."""
        self._rows.close()
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def refuse_layer(path: Path, layer: str | None) -> None:
    """Raise `CellsError` where another matrix is asked for than the one that there is, before that is read."""
    if layer not in (None, "X"):
        raise CellsError(f"{path} holds one matrix, and the layer {layer!r} was asked for. Leave the layer out.")


def _check_unique(cells: Sequence[str], path: Path) -> None:
    if len(set(cells)) == len(cells):
        return
    twice = [name for name, n in Counter(cells).items() if n > 1]
    shown = ", ".join(repr(name) for name in twice[:SHOWN]) + (", ..." if len(twice) > SHOWN else "")
    raise CellsError(
        f"{path} has {len(twice):,} names that several cells bear: {shown}. Their results could not be told apart: "
        "make them unique, for example with the name of the sample before them."
    )
