"""A SOMA data frame of cells or genes (obs, var), read column by column and row range by row range, as text.

It knows the rows by their joinids, and what tiledbsoma and the Census call the index.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from scgpt_infer.readers.joinids import JOINID, Joinids, asked
from scgpt_infer.readers.names import INDEX, texts
from scgpt_infer.readers.soma_store import asking
from scgpt_runtime.errors import CellsError

__all__ = ["SomaTable"]

# A read of rows that are not neighbours names each of them.
ROWS_AT_ONCE = 1 << 16
_ORIGINAL_INDEX = "soma_dataframe_original_index_name"


class SomaTable:
    """Some rows of a data frame.

    Parameters
    ----------
    frame
        SOMA data frame.
    joinids
        Those of its rows.
    index
        Columns of which the first that there is names the rows; where there is none, their joinids do, as text.
    where
        Name of the table in messages.

    Attributes
    ----------
    columns
        Names of the columns, joinids and that of the names not among them.
    named
        What the index was called in the table that the data frame was made of, where it had a name of its own.
    """

    def __init__(self, frame: Any, joinids: Joinids, index: Sequence[str], where: str) -> None:
        with asking(where):
            there = list(frame.schema.names)
            original = json.loads(frame.metadata.get(_ORIGINAL_INDEX, "null"))
        self._frame, self._joinids, self._where = frame, joinids, where
        # An index that had a name is a column of that name; "index" counts as none.
        self._index = next((name for name in (original, *index) if name in there), JOINID)
        self.columns = [name for name in there if name not in (JOINID, self._index)]
        self.named = [original] if isinstance(original, str) and original not in (INDEX, *self.columns) else []

    def column(self, name: str, start: int = 0, stop: int | None = None) -> list[str]:
        """Values of a column as text, rows ``start`` to ``stop``; ``"index"`` is the names of the rows."""
        name = self._index if name in (INDEX, *self.named) else name
        joinids = self._joinids[start:stop]
        if name == JOINID:
            return [str(joinid) for joinid in np.asarray(joinids).tolist()]
        return [text for table in self._read(joinids, [name]) for text in _texts(table[name])]

    def table(self) -> Any:
        """All of it, a pandas DataFrame, joinids among its columns."""
        import pandas as pd

        parts = list(self._read(self._joinids, None))
        with asking(self._where):
            found = _concatenated(parts).to_pandas()
        names = found.pop(self._index) if self._index != JOINID else found[JOINID].astype(str)
        return found.set_index(pd.Index(names.astype(object), name=self.named[0] if self.named else None))

    def _read(self, joinids: Joinids, names: list[str] | None) -> Iterator[Any]:
        """Columns of rows in the order of their joinids, piece by piece."""
        columns = None if names is None else [JOINID, *names]
        for first in range(0, len(joinids), ROWS_AT_ONCE):
            wanted = joinids[first : first + ROWS_AT_ONCE]
            with asking(f"{', '.join(names or ['All'])} of {self._where}"):
                read = self._frame.read(coords=(asked(wanted),), column_names=columns, result_order="row-major")
                rows = read.concat()
            if not np.array_equal(rows[JOINID].to_numpy(), np.asarray(wanted)):
                raise CellsError(
                    f"{self._where} gives {len(rows):,} rows where {len(wanted):,} were expected: it was changed while "
                    "it was read. Run again."
                )
            yield rows


def _concatenated(parts: list[Any]) -> Any:
    import pyarrow as pa

    return pa.concat_tables(parts).unify_dictionaries()


def _texts(column: Any) -> list[str]:
    """A column of Arrow as text; a missing value is the empty text."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    # As numpy's own numbers, which say of themselves what they say when they are read from .h5ad.
    return texts(column.to_numpy() if pa.types.is_floating(column.type) else column.to_pylist())
