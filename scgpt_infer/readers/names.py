"""Names of genes by the column they stand in, read when they are taken."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.errors import CellsError
from scgpt_runtime.vocab import CANDIDATES

__all__ = ["INDEX", "GeneNames", "cell_text", "no_column", "texts"]

INDEX = "index"
SHOWN = 20  # columns that a message names


class GeneNames(Mapping[str, Sequence[str]]):
    """Columns that may hold gene names; a column is read when it is first taken.

    Parameters
    ----------
    columns
        All columns of ``var``.
    load
        Reads a column; ``"index"`` is the index.
    where
        Name of the table in messages.

    Attributes
    ----------
    columns
        All columns of ``var``.
    """

    def __init__(self, columns: Iterable[str], load: Callable[[str], list[str]], where: str) -> None:
        self._columns = list(columns)
        self.columns = tuple(self._columns)
        self._load, self._where = load, where
        self._offered = [name for name in CANDIDATES if name in self._columns or name == INDEX]
        self._read: dict[str, list[str]] = {}

    def __getitem__(self, name: str) -> Sequence[str]:
        if name not in self._offered:
            raise KeyError(name)
        if name not in self._read:
            self._read[name] = self._load(name)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._offered)

    def __len__(self) -> int:
        return len(self._offered)

    def column(self, name: str) -> Sequence[str]:
        """Any column of the table, which need not be one of names; it is not offered from then on."""
        return self._load(name)

    def ask(self, name: str) -> Sequence[str]:
        """The names in any column, which is offered from then on.

        Raises
        ------
        CellsError
            If there is no such column.
        """
        if name != INDEX and name not in self._columns:
            raise CellsError(
                f"{self._where} has no gene column {name!r}; it has {', '.join([*self._columns, INDEX])}. "
                "Choose one of them."
            )
        if name not in self._offered:
            self._offered.append(name)
        return self[name]


def cell_text(values: Iterable[str]) -> NDArray[np.str_]:
    """A column of ``obs`` as an array of text; a number that is none is a missing value."""
    return np.array(["" if value == "nan" else value for value in values], np.str_)


def no_column(where: str, name: str, columns: Sequence[str]) -> CellsError:
    """The error for a column that a table of cells does not have.

    Parameters
    ----------
    where
        Name of the table in messages.
    name
        The column that was asked for.
    columns
        Those there are.
    """
    has = ", ".join(columns[:SHOWN]) + (" and more" if len(columns) > SHOWN else "")
    return CellsError(f"{where} has no column {name!r}; it has {has or 'none'}. Choose one of them.")


def texts(values: Iterable[object]) -> list[str]:
    """Values as text: bytes are UTF-8, a missing value is the empty text."""
    return [_text(value) for value in values]


def _text(value: object) -> str:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return ""
    if isinstance(value, (float, np.floating)) and np.isnan(value):
        return ""
    return str(value)
