"""Which rows of a source are the cells that are wanted by name.

In: an open source and the names of cells. Out: rows. It reads names alone.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers import CellSource
from scgpt_runtime.errors import CellsError

__all__ = ["rows_of"]

_SHOWN = 5


def rows_of(source: CellSource, names: Sequence[str]) -> NDArray[np.int64]:
    """Rows of the cells with these names, ascending; all of them, where several cells have one name.

    Raises
    ------
    CellsError
        No cell has one of the names.
    """
    there = np.array(source.cell_names(0, source.n_cells), object)
    missing = sorted(set(names) - set(there.tolist()))
    if missing:
        shown = ", ".join(missing[:_SHOWN]) + (f" and {len(missing) - _SHOWN:,} more" if len(missing) > _SHOWN else "")
        raise CellsError(
            f"There is no cell named {shown}. The first cells are {', '.join(map(str, there[:_SHOWN]))}. Give names as "
            "they stand in the file (--cells, cells)."
        )
    return np.flatnonzero(np.isin(there, list(names)))
