"""What is wanted: labelled cells, less what the user leaves out, and genes of a model's vocabulary.

In: an open source and names of columns, or names of genes. Out: `Wanted`, a label and a mark for each row, and
`WantedGenes`, token ids. It reads no counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers import CellSource
from scgpt_infer.tasks.annotate import UNKNOWN
from scgpt_runtime.errors import GenesError, OptionError
from scgpt_runtime.vocab import GeneMode, Vocabulary, match, taking_part

__all__ = ["Wanted", "WantedGenes", "listed", "read_names", "tokens_of", "wanted", "wanted_genes"]

SHOWN = 20
FEW = 5


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


@dataclass(frozen=True, slots=True)
class WantedGenes:
    """Genes of a vocabulary.

    Attributes
    ----------
    ids
        (n_genes,) token ids, each once: in the order in which they were asked for, or ascending where all are wanted.
    unknown
        Names that were asked for and are not in the vocabulary.
    all
        Whether nothing was asked for by name.
    """

    ids: NDArray[np.int64]
    unknown: tuple[str, ...]
    all: bool


def wanted_genes(names: Sequence[str], vocabulary: Vocabulary, mode: GeneMode = "exact") -> WantedGenes:
    """Find the genes that are wanted.

    Parameters
    ----------
    names
        Names or Ensembl ids; none: all genes.
    vocabulary
        Of the model.
    mode
        ``exact``, or ``alias``: previous and alias symbols too.

    Raises
    ------
    GenesError
        None of the names is known.
    """
    if not names:
        return WantedGenes(np.flatnonzero(taking_part(vocabulary)), (), all=True)
    ids = tokens_of(names, vocabulary, mode)
    unknown = tuple(name for name, token in ids.items() if token < 0)
    known = list(dict.fromkeys(token for token in ids.values() if token >= 0))
    if not known:
        shown = ", ".join(unknown[:FEW]) + (f" and {len(unknown) - FEW:,} more" if len(unknown) > FEW else "")
        raise GenesError(
            f"The model knows none of the genes that were asked for: {shown}. It has {', '.join(_some(vocabulary))}. "
            "Give symbols or Ensembl ids of its vocabulary; --genes alias (genes='alias') finds older symbols too."
        )
    return WantedGenes(np.array(known, np.int64), unknown, all=False)


def tokens_of(names: Sequence[str], vocabulary: Vocabulary, mode: GeneMode) -> dict[str, int]:
    """Token id of each name, -1 where it is unknown.

    Columns of a file give way to one another where an alias and the gene's own name are both there; names that are
    asked for do not.
    """
    found = match(names, vocabulary, mode)
    ids = dict(zip(names, found.columns.tolist(), strict=True))
    again = match(found.dropped, vocabulary, mode).columns.tolist()
    return ids | dict(zip(found.dropped, again, strict=True))


def read_names(path: Path, what: str = "gene") -> tuple[str, ...]:
    """Names of a text file, one a line; empty lines count for nothing.

    Parameters
    ----------
    path
        The file.
    what
        What is named, for messages.

    Raises
    ------
    OptionError
        The file cannot be read, or names nothing.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"{path} cannot be read as a list of {what}s: {error}. Expected one name a line.") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise OptionError(f"{path} names no {what}. Expected one name a line.")
    return names


def _some(vocabulary: Vocabulary) -> list[str]:
    return [vocabulary.tokens[token] for token in np.flatnonzero(taking_part(vocabulary))[:FEW]]
