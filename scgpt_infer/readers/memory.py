"""Cells of an AnnData object, in memory or backed by a file, which is only read."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from scgpt_infer.readers import matrix
from scgpt_infer.readers.counts import choose
from scgpt_infer.readers.elements import open_rows
from scgpt_infer.readers.matrix import Rows
from scgpt_infer.readers.names import INDEX, GeneNames, cell_text, no_column, texts
from scgpt_infer.readers.source import Stored
from scgpt_infer.readers.stored import embedding
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import CellsError

__all__ = ["AnnDataCells", "TableOfObject"]

OBJECT = "the AnnData object"


class AnnDataCells:
    """A `CellSource` over an AnnData object.

    Parameters
    ----------
    cells
        The object; it must not change while it is read, and is not changed.
    layer
        The matrix to read, see `scgpt_infer.readers.open_cells`.

    Raises
    ------
    CellsError
        If it is no AnnData object, has no cells or genes, or nothing in it can be embedded.
    """

    def __init__(self, cells: AnnData, *, layer: str | None = None) -> None:
        if not isinstance(cells, AnnData):
            kind = f"{type(cells).__module__}.{type(cells).__qualname__}"
            hint = " Take one modality of it, for example mdata.mod['rna']." if "mudata" in kind else ""
            raise CellsError(f"Cells are a {kind}; expected an AnnData object or the path of a file.{hint}")
        if cells.n_obs == 0 or cells.n_vars == 0:
            raise CellsError(
                f"The AnnData object has {cells.n_obs:,} cells and {cells.n_vars:,} genes; there is nothing to embed. "
                "Check how it was filtered."
            )
        self.path = None
        self._cells = cells
        counts = choose(_matrices(cells), layer, "log1p" in cells.uns, OBJECT)
        self._rows = counts.rows
        self.counts, self.values, self.why = counts.name, counts.values, counts.why
        self.n_cells, self.n_genes = counts.rows.shape
        genes = cells.raw.var if counts.name == "raw/X" else cells.var
        where = f"{'raw ' if counts.name == 'raw/X' else ''}var of {OBJECT}"
        named = [] if genes.index.name in (None, INDEX) else [str(genes.index.name)]
        self.gene_names = GeneNames([*(str(name) for name in genes.columns), *named], partial(_column, genes), where)
        self.cell_columns = tuple(str(name) for name in cells.obs.columns if str(name) != INDEX)

    @property
    def rows(self) -> Rows:
        """The matrix that is read."""
        return self._rows

    @property
    def beside(self) -> tuple[Any, Any]:
        """``obsm`` and ``uns``."""
        return self._cells.obsm, self._cells.uns

    def cell_table(self) -> Any:
        """A copy of obs."""
        return self._cells.obs.copy()

    def gene_column(self, name: str) -> Sequence[str]:
        """Gene names of any column of var."""
        return self.gene_names.ask(name)

    def cell_names(self, start: int, stop: int) -> list[str]:
        """Names of the cells of rows ``start`` to ``stop``."""
        return texts(self._cells.obs_names[start:stop])

    def cell_column(self, name: str) -> NDArray[np.str_]:
        """A column of obs as text."""
        if name not in (*self.cell_columns, self._cells.obs_names.name, INDEX):
            raise no_column(f"obs of {OBJECT}", name, self.cell_columns)
        return cell_text(_column(self._cells.obs, name))

    def stored(self, key: str) -> Stored | None:
        """The embedding of ours that ``obsm[key]`` holds."""
        return embedding(self._cells.obsm, self._cells.uns, key, self.n_cells, OBJECT)

    def blocks(self, spans: Iterable[range]) -> Iterator[CellBlock]:
        """The cells of each span of rows."""
        return matrix.blocks(self._rows, spans)

    def sample(self, n: int = 1000) -> CellBlock:
        """About ``n`` cells spread evenly over the object."""
        return matrix.sample(self._rows, n)

    def close(self) -> None:
        """Free what was made for reading; the object stays open."""
        self._rows.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class TableOfObject:
    """A `scgpt_infer.readers.group.CellTable` over a pandas DataFrame, which is never changed."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self.n_rows = len(table)
        self.columns = [str(name) for name in table.columns]
        self.named = [] if table.index.name in (None, INDEX) else [str(table.index.name)]

    def column(self, name: str, start: int = 0, stop: int | None = None) -> list[str]:
        """Values of a column as text."""
        return _column(self._table, name)[start:stop]

    def table(self) -> Any:
        """A copy of all of it."""
        return self._table.copy()


class _ViewRows:
    """Rows of a CSR or dense matrix of a view, subset block by block: to ask the view for it would copy all of it.

    Parameters
    ----------
    cells
        The view.
    take
        Takes the matrix from an AnnData object.
    where
        Name of the matrix in messages.
    shape
        Cells and genes of the matrix.
    """

    def __init__(self, cells: AnnData, take: Callable[[AnnData], Any], where: str, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._cells, self._take, self._where = cells, take, where

    def read(self, start: int, stop: int) -> CellBlock:
        """Rows ``start`` to ``stop``."""
        element = self._take(_part(self._cells, start, stop))
        block = open_rows(element, self._where, (stop - start, self.shape[1])).read(0, stop - start)
        return CellBlock(block.indptr, block.indices, block.data, start)

    def close(self) -> None:
        """Nothing to give back."""


def _part(cells: AnnData, start: int, stop: int) -> AnnData:
    if not cells.isbacked:
        return cells[start:stop]
    # anndata refuses a view of a view of a backed object, so the rows are looked up in the object itself.
    parent = cells._adata_ref
    return parent[np.arange(parent.n_obs)[cells._oidx][start:stop], cells._vidx]


def _matrices(cells: AnnData) -> dict[str, Callable[[], Rows]]:
    takes: dict[str, Callable[[AnnData], Any]] = {}
    if _has_x(cells):
        takes["X"] = lambda part: part.X
    takes |= {f"layers/{name}": partial(_layer, name) for name in cells.layers}
    if cells.raw is not None:
        takes["raw/X"] = lambda part: part.raw.X
    return {name: partial(_open, cells, take, name) for name, take in takes.items()}


def _has_x(cells: AnnData) -> bool:
    try:
        return (_part(cells, 0, 1) if cells.is_view else cells).X is not None
    except KeyError:  # a backed file without it
        return False


def _layer(name: str, cells: AnnData) -> Any:
    return cells.layers[name]


def _open(cells: AnnData, take: Callable[[AnnData], Any], name: str) -> Rows:
    where = f"{name} of {OBJECT}"
    shape = (cells.n_obs, cells.raw.n_vars if name == "raw/X" else cells.n_vars)
    if not cells.is_view or _by_genes(take(_part(cells, 0, 1))):
        return open_rows(take(cells), where, shape)
    return _ViewRows(cells, take, where, shape)


def _by_genes(element: Any) -> bool:
    """Whether it is CSC, of which each row range costs a pass over all of it."""
    return getattr(element, "format", None) == "csc"


def _column(table: Any, name: str) -> list[str]:
    """A column of a table as text, the same as from a file."""
    names = [str(column) for column in table.columns]
    index = name == INDEX or name not in names
    column = table.index if index else table.iloc[:, names.index(name)]
    # As an array of numpy, whole numbers of which one is missing would become floats.
    values = column.to_numpy() if isinstance(column.dtype, np.dtype) else column.array
    if not hasattr(values, "codes"):
        return texts(values)
    categories = texts(values.categories.to_numpy())
    return ["" if code < 0 else categories[code] for code in values.codes.tolist()]
