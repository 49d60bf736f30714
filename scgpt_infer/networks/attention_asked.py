"""What is asked of a network from attention: `AttentionOptions`, checked when it is made, and `Conditions` of cells.

It opens no model and reads no counts.
"""

from dataclasses import dataclass, field

import numpy as np

from scgpt_infer.gene_vectors.groups import Groups, groups_of
from scgpt_infer.integration import IntegrateOptions
from scgpt_infer.networks.ranks import MOST_TOKENS
from scgpt_infer.readers import CellSource
from scgpt_runtime.errors import CellsError, OptionError

__all__ = ["AttentionOptions", "Conditions", "conditions_of"]


@dataclass(frozen=True, slots=True)
class AttentionOptions:
    """What is asked of a network from attention.

    Attributes
    ----------
    targets
        Names of the genes, transcription factors as a rule, whose targets are wanted; empty: every chosen gene.
    condition
        Column of ``obs`` that tells the condition of each cell. None: all cells are one.
    control, against
        Values of that column. Both: edges tell how scores change from the first to the second. One of them: the other
        is the second value of two; `against` alone: its own scores.
    variable
        Take so many genes, those that vary most in the cells, and the `targets`; 1,200 as in scGPT's tutorial.
    only
        Take these genes, and the `targets`, instead.
    top
        Genes for each target; 20 as in scGPT's tutorial.
    compat
        Lose the first cell of each condition, as the original does.
    batches
        Where the batches of cells stand, for a model that normalises by batch.

    Raises
    ------
    OptionError
        When a value is not allowed, or two do not go together.
    """

    targets: tuple[str, ...] = ()
    condition: str | None = None
    control: str | None = None
    against: str | None = None
    variable: int = 1200
    only: tuple[str, ...] = ()
    top: int = 20
    compat: bool = False
    batches: IntegrateOptions = field(default_factory=IntegrateOptions)

    def __post_init__(self) -> None:
        for name, least, most in (("variable", 2, MOST_TOKENS - 1), ("top", 1, MOST_TOKENS - 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise OptionError(f"{name} is {value!r}; expected a whole number from {least} to {most:,}.")
        if self.condition is None and (self.control is not None or self.against is not None):
            raise OptionError(
                "--control and --against (control, against) are values of a column. Name it: --condition (condition)."
            )
        if self.condition is not None and self.control is None and self.against is None:
            raise OptionError(
                f"Which conditions of {self.condition!r} are to be compared? Name them: --control and --against "
                "(control, against), or --against alone for the network of one condition."
            )
        if self.control is not None and self.control == self.against:
            raise OptionError(f"control and against are both {self.control!r}. Name two conditions.")


@dataclass(frozen=True, slots=True)
class Conditions:
    """Conditions of cells.

    Attributes
    ----------
    groups
        The one or two that are wanted, control first; cells of others and of none have code -1.
    control, against
        Their names; no control where a condition is taken by itself.
    n_without, n_others
        Cells that have no condition, and cells of conditions that are not wanted.
    """

    groups: Groups
    control: str | None
    against: str
    n_without: int
    n_others: int


def conditions_of(source: CellSource, how: AttentionOptions, n_cells: int) -> Conditions:
    """Conditions of the first cells of a source.

    Raises
    ------
    CellsError
        There is no such column, or no cell of a condition that is asked for.
    """
    found = groups_of(source, how.condition, n_cells)
    if how.condition is None:
        return Conditions(found, None, "", 0, 0)
    control, against = how.control, how.against
    for name in (control, against):
        if name is not None and name not in found.names:
            raise CellsError(
                f"No cell has {name!r} in the column {how.condition!r} of obs. There are: {', '.join(found.names)}."
            )
    if against is None:
        others = [name for name in found.names if name != control]
        if len(others) != 1:
            raise CellsError(
                f"Compare {control!r} with which condition? The column {how.condition!r} of obs has "
                f"{', '.join(others) or 'no other'}. Name one (--against, against)."
            )
        (against,) = others
    names = (against,) if control is None else (control, against)
    places = np.full(len(found.names) + 1, -1, np.int64)  # the last one is that of cells without a condition
    for code, name in enumerate(names):
        places[found.names.index(name)] = code
    without = int(np.count_nonzero(found.codes < 0))
    groups = Groups(names, places[found.codes])
    others_n = int(np.count_nonzero(groups.codes < 0)) - without
    return Conditions(groups, control, against, without, others_n)
