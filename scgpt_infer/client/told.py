"""Cells told one by one, ``{gene: value}``, ``(genes, values)`` or as a server takes them, as one matrix: `as_matrix`.

In: what users write. Out: a matrix with names, or an error with the cell and the gene. It knows no server and no files.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from scgpt_runtime.errors import CellsError

__all__ = ["ToldCell", "as_matrix", "is_object"]

ToldCell = Mapping[str, Any] | tuple[Sequence[str], Sequence[float]]
"""One cell: values by gene; genes and values as lists of one length; or an object of the server (`is_object`)."""

_FIELDS = frozenset({"genes", "modalities", "features"})
"""What a cell has one of, as the server takes it; no gene is called so."""

_TAKEN = frozenset({"cell", "genes", "values"})
"""What a cell may have that is embedded by itself."""

_NUMBERS = (int, float, np.number, np.bool_)


def is_object(cell: Mapping[Any, Any]) -> bool:
    """Whether a cell is an object as the server takes it (docs/serving/http.md), and no values by gene."""
    return bool(cell.keys() & _FIELDS)


def as_matrix(cells: Sequence[ToldCell]) -> tuple[sparse.csr_matrix, list[str], list[str]]:
    """The values of cells, with a column for each gene, and for each further time that a cell has it.

    Parameters
    ----------
    cells
        Any of the three forms.

    Returns
    -------
    matrix
        (n_cells, n_columns) float32.
    genes
        (n_columns,) names.
    names
        (n_cells,) what a cell is called; its number where it has no name.

    Raises
    ------
    CellsError
        A cell has none of these forms, or a value is no number.
    """
    places: dict[tuple[str, int], int] = {}
    indices: list[int] = []
    values: list[NDArray[np.float32]] = []
    indptr, names = [0], []
    for row, cell in enumerate(cells):
        name, genes, numbers = _parts(row, cell)
        names.append(name)
        times: Counter[str] = Counter()
        for gene in genes:
            indices.append(places.setdefault((gene, times[gene]), len(places)))
            times[gene] += 1
        values.append(_numbers(row, name, genes, numbers))
        indptr.append(len(indices))
    shape = (len(cells), len(places))
    matrix = sparse.csr_matrix((np.concatenate(values), indices, indptr), shape=shape)
    return matrix, [gene for gene, _ in places], names


def _parts(row: int, cell: Any) -> tuple[str, list[str], list[Any]]:
    """Name, genes and values of a cell."""
    name = str(row)
    if isinstance(cell, Mapping) and is_object(cell):
        name, cell = _object(row, cell)
    if isinstance(cell, Mapping):
        return name, [str(gene) for gene in cell], [*cell.values()]
    if not _is_list(cell) or len(cell) != 2 or not all(map(_is_list, cell)):
        raise CellsError(
            f"Cell {row} is {str(cell)[:60]}; expected a dict of values by gene, a pair of lists (genes and values), "
            "or an object with genes, values and cell."
        )
    genes, numbers = cell
    if len(genes) != len(numbers):
        raise CellsError(f"Cell {row} has {len(genes):,} genes and {len(numbers):,} values; expected as many of both.")
    return name, [str(gene) for gene in genes], [*numbers]


def _object(row: int, cell: Mapping[str, Any]) -> tuple[str, Any]:
    """Name and contents of a cell as the server takes it."""
    if further := [*map(str, cell.keys() - _TAKEN)]:
        raise CellsError(
            f"Cell {row} has {', '.join(sorted(further))}; expected cell, genes and values alone. Tasks that take more "
            "are asked for by call."
        )
    name, genes = cell.get("cell", str(row)), cell["genes"]
    if not isinstance(name, str):
        raise CellsError(f"Cell {row} is called {name!r}; expected a text.")
    if "values" in cell:
        return name, (genes, cell["values"])
    if not isinstance(genes, Mapping):
        raise CellsError(f"Cell {row} has a list of genes and no values; expected as many values beside it.")
    return name, genes


def _numbers(row: int, name: str, genes: Sequence[str], values: Sequence[Any]) -> NDArray[np.float32]:
    called = "" if name == str(row) else f" ({name})"
    for gene, value in zip(genes, values, strict=True):
        if not isinstance(value, _NUMBERS) or isinstance(value, np.complexfloating):
            raise CellsError(f"Cell {row}{called} has {repr(value)[:60]} for the gene {gene!r}; expected a number.")
    try:
        with np.errstate(over="ignore"):  # too large is infinite, which the server judges
            return np.array(values, np.float32)
    except OverflowError as error:
        raise CellsError(f"Cell {row}{called} has a value of more than 300 digits; expected counts.") from error


def _is_list(found: Any) -> bool:
    return hasattr(found, "__len__") and hasattr(found, "__iter__") and not isinstance(found, (str, bytes, Mapping))
