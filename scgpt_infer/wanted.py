"""Which labelled cells are wanted: those with a label, less what the user leaves out.

In: an open source and names of columns. Out: `Wanted`, a label and a mark for each row. It reads no counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers import CellSource
from scgpt_infer.tasks.annotate import UNKNOWN
from scgpt_runtime.errors import OptionError

__all__ = ["Wanted", "listed", "wanted"]

SHOWN = 20


@dataclass(slots=True)
class Wanted:
    """Cells that are still in, and how many went out for which reason.

    Attributes
    ----------
    labels
        (n_cells,) label of each row, wanted or not.
    kept
        (n_cells,) whether it is wanted.
    out
        Number of cells that are not by the reason.
    """

    labels: NDArray[np.str_]
    kept: NDArray[np.bool_]
    out: dict[str, int] = field(default_factory=dict)

    def drop(self, cells: NDArray[np.bool_], reason: str) -> None:
        """Leave cells out."""
        cells = cells & self.kept
        if cells.any():
            self.out[reason] = self.out.get(reason, 0) + int(cells.sum())
            self.kept &= ~cells


def wanted(
    source: CellSource,
    label: str,
    *,
    ignore: Sequence[str] = (),
    exclude: Sequence[tuple[str, str]] = (),
    limit: int | None = None,
) -> Wanted:
    """Labels of cells, and which are wanted.

    Parameters
    ----------
    source
        Open cells.
    label
        Column of ``obs`` with the labels. A cell that is told `UNKNOWN` has none: that word is annotation's own.
    ignore
        Labels whose cells are left out.
    exclude
        Columns of ``obs``, each with a value whose cells are left out.
    limit
        Look at the first so many cells only.

    Raises
    ------
    CellsError
        There is no such column.
    OptionError
        A label or value that shall be left out is not there.
    """
    labels = source.cell_column(label)[:limit]
    found = Wanted(labels, np.ones(len(labels), bool))
    found.drop((labels == "") | (labels == UNKNOWN), f"no label ({label} is empty or {UNKNOWN})")
    for name in ignore:
        _check_there(name, labels, label, "--ignore (ignore)")
        found.drop(labels == name, f"label {name} is ignored")
    for column, value in exclude:
        values = source.cell_column(column)[:limit]
        _check_there(value, values, column, "--exclude (exclude)")
        found.drop(values == value, f"{column} is {value}")
    return found


def listed(names: Sequence[str] | NDArray[np.str_]) -> str:
    """The first few of some names, in words."""
    shown = [str(name) or "(empty)" for name in names[:SHOWN]]
    return (", ".join(shown) or "none") + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")


def _check_there(name: str, values: NDArray[np.str_], column: str, option: str) -> None:
    if name not in values:
        raise OptionError(
            f"{option} names {name!r}, which no cell has in column {column!r}; it has {listed(np.unique(values))}."
        )
