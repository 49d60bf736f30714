"""What is asked of genes: `GeneOptions`, checked when it is made.

It opens no model and reads no cells.
"""

from dataclasses import dataclass

from scgpt_runtime.errors import OptionError

__all__ = ["GeneOptions"]

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
