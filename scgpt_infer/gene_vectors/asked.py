"""Which genes are wanted, and how: `GeneOptions`, checked when it is made, and `WantedGenes` of a vocabulary.

In: names as people give them. Out: token ids. It opens no model and reads no cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.errors import GenesError, OptionError
from scgpt_runtime.vocab import GeneMode, Vocabulary, match, taking_part

__all__ = ["GeneOptions", "WantedGenes", "read_names", "wanted_genes"]

SHOWN = 5
_TAKEN = ("gene", "cells", "embedding")


@dataclass(frozen=True, slots=True)
class GeneOptions:
    """What is asked of genes.

    Attributes
    ----------
    only
        Names or Ensembl ids of the genes that are wanted; empty: all.
    by
        Column of ``obs``: one set of vectors for each of its values. None: one for all cells.
    min_cells
        A gene that is seen in fewer cells (of a group) has no vector.
    per_cell
        A vector for each gene of each cell instead of their mean.

    Raises
    ------
    OptionError
        When a value is not allowed, or two do not go together.
    """

    only: tuple[str, ...] = ()
    by: str | None = None
    min_cells: int = 1
    per_cell: bool = False

    def __post_init__(self) -> None:
        if self.min_cells < 1:
            raise OptionError(f"min_cells is {self.min_cells}; expected a whole number of at least 1.")
        if self.by in _TAKEN:
            raise OptionError(
                f"by is {self.by!r}, which a table of genes has as a column of its own. Rename that of obs."
            )
        if self.per_cell and (self.by is not None or self.min_cells > 1):
            raise OptionError(
                "--by and --min-cells (by, min_cells) are for means over cells, and --per-cell (per_cell) asks for "
                "each cell by itself. Leave one of them out."
            )

    @property
    def of_cells(self) -> bool:
        """Whether cells are needed."""
        return self.by is not None or self.min_cells > 1 or self.per_cell


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
    ids = match(names, vocabulary, mode).columns
    unknown = tuple(dict.fromkeys(name for name, token in zip(names, ids.tolist(), strict=True) if token < 0))
    known = list(dict.fromkeys(token for token in ids.tolist() if token >= 0))
    if not known:
        shown = ", ".join(unknown[:SHOWN]) + (f" and {len(unknown) - SHOWN:,} more" if len(unknown) > SHOWN else "")
        raise GenesError(
            f"The model knows none of the genes that were asked for: {shown}. It has {', '.join(_some(vocabulary))}. "
            "Give symbols or Ensembl ids of its vocabulary; --genes alias (genes='alias') finds older symbols too."
        )
    return WantedGenes(np.array(known, np.int64), unknown, all=False)


def read_names(path: Path) -> tuple[str, ...]:
    """Names of a text file, one a line; empty lines count for nothing.

    Raises
    ------
    OptionError
        The file cannot be read, or names nothing.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"{path} cannot be read as a list of genes: {error}. Expected one name a line.") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise OptionError(f"{path} names no gene. Expected one name a line.")
    return names


def _some(vocabulary: Vocabulary) -> list[str]:
    return [vocabulary.tokens[token] for token in np.flatnonzero(taking_part(vocabulary))[:SHOWN]]
