"""Which cells of a reference teach: those with a label that is wanted, not too few and not too many of each.

In: an open source and `LearnOptions`. Out: `Chosen` rows with their labels and groups. It reads no counts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.learning.options import LearnOptions
from scgpt_infer.readers import CellSource
from scgpt_infer.wanted import Wanted, listed, wanted
from scgpt_runtime.errors import CellsError, OptionError

__all__ = ["Chosen", "chosen"]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The cells that teach.

    Attributes
    ----------
    rows
        (n_cells,) their rows in the source, ascending.
    labels
        (n_cells,) their labels.
    groups
        (n_cells,) their donor or batch; None where folds need not keep any apart.
    left_out
        Numbers of the other cells by the reason.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.str_]
    groups: NDArray[np.str_] | None
    left_out: dict[str, int]

    def only(self, good: NDArray[np.bool_], reason: str, how: LearnOptions) -> "Chosen":
        """Those of the cells that are good; what is left of a class may be too few again."""
        left = Wanted(self.labels, good.copy(), dict(self.left_out))
        if not good.all():
            left.out[reason] = int((~good).sum())
        left.drop(_rare(self.labels, left.kept, how), _few(how))
        groups = None if self.groups is None else self.groups[left.kept]
        found = Chosen(self.rows[left.kept], self.labels[left.kept], groups, left.out)
        _check(found, how)
        return found


def chosen(source: CellSource, label: str, how: LearnOptions, limit: int | None = None) -> Chosen:
    """Choose the cells that teach.

    Parameters
    ----------
    source
        Open cells.
    label
        Column of ``obs`` with the labels.
    how
        What is left out.
    limit
        Look at the first so many cells only.

    Raises
    ------
    CellsError
        There is no such column, or fewer than two classes are left.
    OptionError
        A label or value that shall be left out is not there, or all cells are of one group.
    """
    left = wanted(source, label, ignore=how.ignore, exclude=how.exclude, limit=limit)
    labels = left.labels
    left.drop(_rare(labels, left.kept, how), _few(how))
    left.drop(_surplus(labels, left.kept, how), f"more than {how.max_cells_per_class:,} of a class")
    groups = None if how.by is None else source.cell_column(how.by)[:limit][left.kept]
    found = Chosen(np.flatnonzero(left.kept), labels[left.kept], groups, left.out)
    _check(found, how)
    return found


def _few(how: LearnOptions) -> str:
    return f"fewer than {how.min_cells} of a class"


def _rare(labels: NDArray[np.str_], kept: NDArray[np.bool_], how: LearnOptions) -> NDArray[np.bool_]:
    names, counts = np.unique(labels[kept], return_counts=True)
    return np.isin(labels, names[counts < how.min_cells])


def _surplus(labels: NDArray[np.str_], kept: NDArray[np.bool_], how: LearnOptions) -> NDArray[np.bool_]:
    """All but an even spread over the rows of each class that has too many."""
    surplus, most = np.zeros(len(labels), bool), how.max_cells_per_class
    names, counts = np.unique(labels[kept], return_counts=True)
    for name in names[counts > most]:
        rows = np.flatnonzero(kept & (labels == name))
        surplus[rows] = True
        surplus[rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]] = False
    return surplus


def _check(found: Chosen, how: LearnOptions) -> None:
    names = np.unique(found.labels)
    if len(names) < 2:
        left = "; ".join(f"{count:,} cells: {reason}" for reason, count in found.left_out.items())
        raise CellsError(
            f"A classifier needs two classes, and the cells have {len(names)} ({listed(names)}). "
            f"Left out were {left or 'none'}. Name another column (--label), or leave fewer cells out."
        )
    if found.groups is not None and len(np.unique(found.groups)) < 2:
        raise OptionError(
            f"All {len(found.rows):,} cells have the value {str(found.groups[0])!r} in column {how.by!r}, so none of "
            "them can be judged by what others taught. Name a column with several values, or leave --by (by) out."
        )
