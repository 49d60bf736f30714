"""Cells of a request as an AnnData object in memory, which every task reads as it reads a file.

In: `CellAsked` and `ModalCellAsked`. Out: AnnData. It knows no task and no model.
"""

import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from scgpt_infer.server.calls.bodies import CellAsked, ModalCellAsked
from scgpt_infer.server.refusals import Unprocessable

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["cells_of", "modal_cells_of"]

_Cell = CellAsked | ModalCellAsked

_Feature = tuple[str, str, int]
"""Modality, name, and how many columns of that name come before it."""

_NOT_ALONE = "Give a value for each name."


def cells_of(asked: Sequence[CellAsked], measured: Sequence[str] = ()) -> "AnnData":
    """Cells with genes.

    Parameters
    ----------
    asked
        The cells.
    measured
        Genes that have a column whether a cell expresses them or not; those that cells have besides come after them.

    Raises
    ------
    Unprocessable
        There are none, none has a gene, or a cell has not as many values as genes.
    """
    columns = {("", gene, 0): place for place, gene in enumerate(dict.fromkeys(measured))}
    return _anndata(asked, [_of_one(row, cell) for row, cell in enumerate(asked)], columns)


def modal_cells_of(asked: Sequence[ModalCellAsked]) -> "AnnData":
    """Cells with features of several modalities, which the column ``feature_types`` of ``var`` tells.

    Raises
    ------
    Unprocessable
        There are none, none has a feature, or a cell does not tell name, value and modality of each feature.
    """
    columns: dict[_Feature, int] = {}
    found = _anndata(asked, [_of_several(row, cell) for row, cell in enumerate(asked)], columns)
    found.var["feature_types"] = np.array([kind for kind, _, _ in columns], object)
    return found


def _of_one(row: int, cell: CellAsked) -> dict[_Feature, float]:
    if isinstance(cell.genes, dict):
        if cell.values is not None:
            raise Unprocessable(f"cells[{row}] has values in genes and beside them; expected one of the two.")
        return {("", gene, 0): value for gene, value in cell.genes.items()}
    values = cell.values or []
    if len(values) != len(cell.genes):
        raise Unprocessable(f"cells[{row}] has {len(cell.genes):,} genes and {len(values):,} values. {_NOT_ALONE}")
    return _numbered(("", gene, value) for gene, value in zip(cell.genes, values, strict=True))


def _of_several(row: int, cell: ModalCellAsked) -> dict[_Feature, float]:
    types, names, values = cell.feature_types, cell.features, cell.values
    if cell.modalities is not None:
        if any(one is not None for one in (types, names, values)):
            raise Unprocessable(f"cells[{row}] has modalities and lists of features; expected one of the two.")
        return {(kind, name, 0): value for kind, own in cell.modalities.items() for name, value in own.items()}
    types, names, values = types or [], names or [], values or []
    if not len(types) == len(names) == len(values):
        raise Unprocessable(
            f"cells[{row}] has {len(names):,} features, {len(values):,} values and {len(types):,} feature_types. "
            "Give a value and a modality for each name."
        )
    return _numbered(zip(types, names, values, strict=True))


def _numbered(told: Iterable[tuple[str, str, float]]) -> dict[_Feature, float]:
    """Values by column; a name that comes again has a further column of its own."""
    found: dict[_Feature, float] = {}
    for kind, name, value in told:
        place = 0
        while (kind, name, place) in found:
            place += 1
        found[kind, name, place] = value
    return found


def _anndata(asked: Sequence[_Cell], rows: list[dict[_Feature, float]], columns: dict[_Feature, int]) -> "AnnData":
    """The cells, a column a feature; columns that are new are added to those that there are."""
    from anndata import AnnData

    if not asked:
        raise Unprocessable("cells is empty; expected one cell or more.")
    indices = np.array([columns.setdefault(feature, len(columns)) for row in rows for feature in row], np.int32)
    if not columns:
        raise Unprocessable("No cell has a gene; expected genes with their values in at least one.")
    data = np.array([value for row in rows for value in row.values()], np.float64)
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    with np.errstate(over="ignore"):  # what is beyond float32 is infinite, and its cell is told so
        matrix = sparse.csr_matrix((data.astype(np.float32), indices, indptr), (len(rows), len(columns)))
    matrix.sort_indices()
    var = pd.DataFrame(index=pd.Index([name for _, name, _ in columns], dtype=str))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* names are not unique")  # they need not be
        return AnnData(matrix, obs=_table(asked), var=var)


def _table(asked: Sequence[_Cell]) -> pd.DataFrame:
    names = [str(row) if cell.cell is None else cell.cell for row, cell in enumerate(asked)]
    columns = dict.fromkeys(column for cell in asked for column in cell.obs)  # in the order in which they are told
    told = {column: np.array([cell.obs.get(column) for cell in asked], object) for column in columns}
    return pd.DataFrame(told, index=pd.Index(names, dtype=str))
