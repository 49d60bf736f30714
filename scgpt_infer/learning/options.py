"""What a user can ask of teaching: `LearnOptions`, checked when it is made. It knows no cells."""

import math
from dataclasses import dataclass

from scgpt_runtime.errors import OptionError

__all__ = ["MAX_CELLS_PER_CLASS", "MIN_CELLS", "LearnOptions"]

MIN_CELLS = 5
"""Default of `LearnOptions.min_cells`: one cell for each fold."""

MAX_CELLS_PER_CLASS = 2000
"""Default of `LearnOptions.max_cells_per_class`."""


@dataclass(frozen=True, slots=True)
class LearnOptions:
    """Which cells teach, and how.

    Attributes
    ----------
    by
        Column of ``obs`` whose values no two folds share when the classifier is judged, such as the donor or batch.
        None: cells are split whatever they are from.
    ignore
        Labels whose cells are left out.
    exclude
        Cells are left out whose column of ``obs`` (first word) has a value (second).
    c
        scikit-learn's C: the smaller, the stronger the regularisation. None: chosen by held-out log loss.
    balanced
        Let each class count the same, whatever its number of cells. Rare classes are found more often then, at the
        price of the others and of confidences that are probabilities.
    min_cells
        A class of fewer cells is left out.
    max_cells_per_class
        Of a class with more cells so many are taken, spread evenly over the file.
    recompute
        Run the model although vectors that it would make lie with the cells already.

    Raises
    ------
    OptionError
        When a value is not allowed.
    """

    by: str | None = None
    ignore: tuple[str, ...] = ()
    exclude: tuple[tuple[str, str], ...] = ()
    c: float | None = None
    balanced: bool = False
    min_cells: int = MIN_CELLS
    max_cells_per_class: int = MAX_CELLS_PER_CLASS
    recompute: bool = False

    def __post_init__(self) -> None:
        if self.c is not None and not (self.c > 0 and math.isfinite(self.c)):
            raise OptionError(f"c is {self.c!r}; expected a number above 0, such as 0.1.")
        for name, value in (("min_cells", self.min_cells), ("max_cells_per_class", self.max_cells_per_class)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 2:
                raise OptionError(f"{name} is {value!r}; expected a whole number of at least 2.")
        if self.max_cells_per_class < self.min_cells:
            raise OptionError(
                f"max_cells_per_class is {self.max_cells_per_class} and min_cells {self.min_cells}: no class could be "
                "taught. Raise the one, or lower the other."
            )
