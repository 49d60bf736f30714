"""Which group each cell is in: the values of a column of ``obs``.

In: open cells and the name of a column. Out: `Groups`. It computes nothing of the model's.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers import CellSource
from scgpt_runtime.errors import CellsError

__all__ = ["Groups", "groups_of"]


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of cells.

    Attributes
    ----------
    names
        In alphabetical order; one without a name where all cells are one group.
    codes
        (n_cells,) int64 group of each cell, -1 for none.
    """

    names: tuple[str, ...]
    codes: NDArray[np.int64]

    @property
    def sizes(self) -> dict[str, int]:
        """Cells by group."""
        counts = np.bincount(self.codes[self.codes >= 0], minlength=len(self.names))
        return dict(zip(self.names, counts.tolist(), strict=True))


def groups_of(source: CellSource, by: str | None, n_cells: int) -> Groups:
    """Groups of the first cells of a source.

    Raises
    ------
    CellsError
        There is no such column, or no cell has a value in it.
    """
    if by is None:
        return Groups(("",), np.zeros(n_cells, np.int64))
    values = source.cell_column(by)[:n_cells]
    names = np.unique(values[values != ""])
    if len(names) == 0:
        raise CellsError(f"No cell has a value in the column {by!r} of obs. Choose another one (--by, by=...).")
    places = np.searchsorted(names, values)
    codes = np.where(values != "", places, -1).astype(np.int64)
    return Groups(tuple(names.tolist()), codes)
