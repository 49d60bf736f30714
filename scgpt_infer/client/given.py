"""What users have: an AnnData object, paths, a matrix with names of genes, or cells told one by one. `opened` reads it.

In: any of these. Out: a `CellSource`, and what the result is added to. It knows no server.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from scgpt_infer.client.terms import ReadOptions
from scgpt_infer.client.told import ToldCell, as_matrix, is_object
from scgpt_infer.model import cells_of
from scgpt_infer.readers import CellSource
from scgpt_infer.readers.source import CellPaths, are_paths
from scgpt_runtime.errors import CellsError

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["GivenCells", "is_as_served", "opened"]

GivenCells: TypeAlias = "AnnData | CellPaths | NDArray[Any] | sparse.sparray | sparse.spmatrix | Sequence[ToldCell]"
"""Cells as `opened` takes them."""


@contextmanager
def opened(
    cells: Any, genes: Sequence[str] | None, how: ReadOptions
) -> Iterator[tuple["AnnData | CellPaths", CellSource]]:
    """Open cells for reading.

    Parameters
    ----------
    cells
        An AnnData object (in memory or backed) or paths, as `scgpt_infer.embed` takes them; a matrix of cells by genes,
        of numpy or scipy; or a list of cells, each ``{gene: value}``, ``(genes, values)``, or an object as the server
        takes it (`scgpt_infer.client.told`).
    genes
        Names or Ensembl ids of the columns of a matrix; None for all else.
    how
        What is read of them.

    Yields
    ------
    cells
        What a result is added to: the object itself or the paths, or an object that is made of the rest.
    source
        The same, open.

    Raises
    ------
    CellsError
        They are none of these, or hold nothing that can be embedded.
    """
    if genes is not None:
        cells = _of_matrix(cells, genes)
    elif _is_told(cells):
        matrix, found, names = as_matrix(cells)
        cells = _anndata(matrix, found, names)
    elif _is_matrix(cells) or type(cells).__name__ == "DataFrame":
        raise CellsError(
            "Cells are a matrix without names of genes. Give these too: embed(matrix, genes); of a table of pandas "
            "embed(table.to_numpy(), table.columns)."
        )
    with cells_of(cells, how.embedding()) as source:
        yield cells, source


def is_as_served(cells: Any) -> bool:
    """Whether cells are written as the server takes them: a list of objects with names, and no ``{gene: value}``."""
    return isinstance(cells, list) and bool(cells) and all(isinstance(cell, dict) and is_object(cell) for cell in cells)


def _is_told(cells: Any) -> TypeGuard[Sequence[ToldCell]]:
    return (
        are_paths(cells) and not isinstance(cells, (str, Path)) and any(not isinstance(c, (str, Path)) for c in cells)
    )


def _is_matrix(cells: Any) -> bool:
    return isinstance(cells, np.ndarray) or bool(sparse.issparse(cells))


def _of_matrix(matrix: Any, genes: Sequence[str]) -> "AnnData":
    if not _is_matrix(matrix):
        what = type(matrix).__name__
        raise CellsError(
            f"Names of genes go with a matrix of numpy or scipy, and cells are a {what}. Leave them out, or give a "
            "matrix: of a table of pandas embed(table.to_numpy(), table.columns)."
        )
    genes = list(genes)
    if matrix.ndim != 2 or matrix.shape[1] != len(genes):
        raise CellsError(
            f"The matrix is of shape {matrix.shape} and there are {len(genes):,} names of genes; expected a row for "
            "each cell and a column for each gene."
        )
    by_rows = isinstance(matrix, np.ndarray) or matrix.format in ("csr", "csc")
    return _anndata(matrix if by_rows else matrix.tocsr(), genes, [str(row) for row in range(matrix.shape[0])])


def _anndata(matrix: Any, genes: Sequence[str], names: Sequence[str]) -> "AnnData":
    import pandas as pd
    from anndata import AnnData

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Variable names are not unique")  # a gene may stand in two columns
        obs = pd.DataFrame(index=pd.Index(list(names), dtype=object))
        return AnnData(matrix, obs=obs, var=pd.DataFrame(index=pd.Index(list(genes), dtype=object)))
