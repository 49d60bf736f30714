"""The genes of several tables as one list of columns: `GeneUnion`.

Names of genes come in, table by table; which column of the union each gene has goes out. It knows nothing of files or
vocabularies.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.errors import CellsError

__all__ = ["GeneUnion"]

ENOUGH = 0.5
"""Share of names in common from which columns of the same name are of one kind, without a look at the others."""

SOME = 0.1
"""Share of names in common below which they are chance, where other columns have more."""

SHOWN = 3

Names = Mapping[str, Sequence[str]]
Key = tuple[str | int, ...]


class GeneUnion:
    """Genes of several tables, those of the first in front and in its order.

    A table may call its columns otherwise than the first does: symbols are the index here and ``feature_name`` there.
    So each column of the union meets that column of a table which has most names in common with it. Genes are one
    where all columns that meet agree; two genes of one table stay two.

    Parameters
    ----------
    first
        Gene names of the first table by the column they stand in. They are the columns of the union.

    Attributes
    ----------
    names
        Gene names of the union by the column they stand in.
    """

    def __init__(self, first: Names) -> None:
        self.names = {column: list(names) for column, names in first.items()}
        self._known = {column: set(names) for column, names in first.items()}
        self._places: tuple[tuple[str, ...], dict[Key, int]] = ((), {})  # of the columns that met last

    def __len__(self) -> int:
        return len(next(iter(self.names.values())))

    def add(self, table: Names, where: str) -> NDArray[np.int32]:
        """Take in the genes of a table.

        Parameters
        ----------
        table
            Gene names by the column they stand in.
        where
            Name of the table in messages.

        Returns
        -------
        NDArray[np.int32]
            (n_genes,) column of the union that each gene of the table has.

        Raises
        ------
        CellsError
            If no name is in the union already.
        """
        met = self._meeting(table)
        if not met:
            ours, theirs = (", ".join(list(names.values())[-1][:SHOWN]) for names in (self.names, table))
            raise CellsError(
                f"{where} has no gene in common with the first file: its genes are called {theirs} ..., the first "
                f"file's {ours} .... Embed it alone, or leave it out."
            )
        places = self._places_by(tuple(met))
        found = np.empty(len(next(iter(met.values()))), np.int32)
        new: list[int] = []
        for gene, key in enumerate(_numbered(met.values())):
            place = places.get(key)
            if place is None:
                place = places[key] = len(self) + len(new)
                new.append(gene)
            found[gene] = place
        self._append(met, new)
        return found

    def _meeting(self, table: Names) -> dict[str, Sequence[str]]:
        """The table's names for the columns of the union that it knows something of."""
        shares = {}
        for column, known in self._known.items():
            own = table.get(column)
            share = 0.0 if own is None else _share(known, own)
            if own is not None and share >= ENOUGH:
                shares[column] = (share, own)
            else:
                each = [(_share(known, names), names) for name, names in table.items() if name != column]
                shares[column] = max([(share, own or ()), *each], key=lambda one: one[0])
        least = min(SOME, max(share for share, _ in shares.values()))
        return {column: names for column, (share, names) in shares.items() if share and share >= least}

    def _places_by(self, columns: tuple[str, ...]) -> dict[Key, int]:
        if self._places[0] != columns:
            keys = _numbered([self.names[column] for column in columns])
            self._places = (columns, {key: place for place, key in enumerate(keys)})
        return self._places[1]

    def _append(self, met: Mapping[str, Sequence[str]], genes: list[int]) -> None:
        """New genes; a column that the table has nothing for takes what the table calls them elsewhere."""
        instead = next(iter(met.values()))
        for column, known in self._known.items():
            names = met.get(column, instead)
            added = [names[gene] for gene in genes]
            self.names[column] += added
            known.update(added)


def _share(known: set[str], names: Sequence[str]) -> float:
    """Names in common, as a share of the fewer."""
    theirs = set(names)
    return len(known & theirs) / max(1, min(len(known), len(theirs)))


def _numbered(columns: Iterable[Sequence[str]]) -> Iterator[Key]:
    """The names of each gene, with how often they stood before."""
    before: Counter[Key] = Counter()
    for names in zip(*columns, strict=True):
        yield (*names, before[names])
        before[names] += 1
