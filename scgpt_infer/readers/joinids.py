"""Joinids: the numbers by which SOMA joins cells and genes to the rows and columns of its arrays.

Data frames and sources come in, the joinids of the rows that are wanted go out, and how to ask for them. What they are
joined to it does not know.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers.soma_store import asking
from scgpt_infer.readers.source import CellSource, NumberedCells
from scgpt_runtime.errors import CellsError

__all__ = ["JOINID", "Joinids", "asked", "joinids_of", "joinids_of_cells", "places"]

JOINID = "soma_joinid"
"""Name of their column."""

Joinids = range | NDArray[np.int64]
"""In ascending order; a range where none is left out, which takes no memory."""


def joinids_of(frame: Any, value_filter: str | None, what: str) -> Joinids:
    """Joinids of the rows of a data frame that a filter lets through.

    Parameters
    ----------
    frame
        SOMA data frame.
    value_filter
        As TileDB-SOMA takes it; None: all rows.
    what
        Name of the data frame in messages.

    Raises
    ------
    CellsError
        If the filter does not fit the columns, or rows are not found by their joinids.
    """
    with asking(what):
        if tuple(frame.index_column_names) != (JOINID,):
            raise CellsError(
                f"{what} is indexed by {', '.join(frame.index_column_names)}; expected {JOINID} alone. Write the "
                "experiment again with tiledbsoma.io."
            )
        columns = [name for name in frame.schema.names if name != JOINID]
        if value_filter is None and tuple(frame.domain[0]) == (0, frame.count - 1):
            return range(frame.count)
    remedy = f"Write a filter such as \"cell_type == 'B cell'\" of the columns {', '.join(columns)}."
    with asking(what if value_filter is None else f"{what} where {value_filter}", remedy):
        parts = [table[JOINID].to_numpy() for table in frame.read(column_names=[JOINID], value_filter=value_filter)]
    found = np.sort(np.concatenate([np.empty(0, np.int64), *parts]))
    whole = range(int(found[0]), int(found[-1]) + 1) if len(found) else range(0)
    return whole if len(whole) == len(found) else found


def joinids_of_cells(source: CellSource) -> Callable[[int, int], NDArray[np.int64]] | None:
    """What gives the joinids of rows start to stop: the source itself, or a column ``soma_joinid`` of its obs.

    Returns
    -------
    callable or None
        None where there is neither. A column is read when the first joinids are asked for; `CellsError` is raised then
        where it holds something else.
    """
    if isinstance(source, NumberedCells):
        return source.joinids
    return _Column(source).joinids if JOINID in source.cell_columns else None


@dataclass(slots=True)
class _Column:
    """Joinids in a column of obs; the column is read once, and 8 bytes a cell are held."""

    source: CellSource
    read: NDArray[np.int64] | None = None

    def joinids(self, start: int, stop: int) -> NDArray[np.int64]:
        if self.read is None:
            told = self.source.cell_column(JOINID)
            try:
                self.read = told.astype(np.int64)
            except ValueError as error:
                raise CellsError(
                    f"Column {JOINID} of obs holds something that is no joinid ({error}); expected a whole number for "
                    "each cell."
                ) from error
        return self.read[start:stop]


def asked(joinids: Joinids) -> Any:
    """The same as a coordinate of a read: a slice, its end counted in, where none is left out."""
    first, last = int(joinids[0]), int(joinids[-1])
    return slice(first, last) if last - first + 1 == len(joinids) else np.asarray(joinids)


def places(found: NDArray[np.int64], joinids: Joinids) -> NDArray[np.int64]:
    """(n,) where each of the joinids that were read stands among those that were asked for; -1: nowhere."""
    if not len(joinids):
        return np.full(len(found), -1, np.int64)
    if isinstance(joinids, range):
        return np.where((found >= joinids.start) & (found < joinids.stop), found - joinids.start, -1)
    at = np.minimum(np.searchsorted(joinids, found), len(joinids) - 1)
    return np.where(joinids[at] == found, at, -1)
