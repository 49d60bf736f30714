"""What is asked of cells, `Question`, and what is told of them, `Rows`.

Plain data. It knows neither a server nor how cells travel.
"""

from dataclasses import dataclass
from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.annotating import AnnotateOptions
from scgpt_infer.tasks.annotate import UNKNOWN
from scgpt_infer.writers.sink import Column, Kind
from scgpt_runtime.errors import OptionError

__all__ = ["PREFIX", "Question", "Rows"]

PREFIX = "scgpt_"
"""What the names of columns begin with in ``obs``."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of cells.

    Attributes
    ----------
    task
        ``embed`` or ``annotate``.
    top, unknown_below
        See `scgpt_infer.AnnotateOptions`.

    Raises
    ------
    OptionError
        When a value is not allowed.
    """

    task: str
    top: int = 3
    unknown_below: float | None = None

    def __post_init__(self) -> None:
        if hasattr(self.top, "__index__") and not isinstance(self.top, bool):
            object.__setattr__(self, "top", index(self.top))  # numpy's too
        if isinstance(self.unknown_below, np.floating):
            object.__setattr__(self, "unknown_below", float(self.unknown_below))
        if self.task not in ("embed", "annotate"):
            raise OptionError(f"task is {self.task!r}; expected embed or annotate. Other tasks are asked for by call.")
        AnnotateOptions(top=self.top, unknown_below=self.unknown_below)  # refuses what it does not allow

    @property
    def kind(self) -> Kind:
        """What the result tells."""
        return "embeddings" if self.task == "embed" else "cell_types"

    @property
    def options(self) -> dict[str, int | float]:
        """As the protocols name them."""
        if self.task == "embed":
            return {}
        below = {} if self.unknown_below is None else {"unknown_below": self.unknown_below}
        return {"top": self.top, **below}

    def columns(self, labels: tuple[str, ...]) -> tuple[Column, ...]:
        """What goes beside the vectors, as `scgpt_infer.tasks.annotate.Annotation` tells it."""
        if self.task == "embed":
            return ()
        words = labels if UNKNOWN in labels else (*labels, UNKNOWN)
        ranked = [(f"label_{rank}", f"confidence_{rank}") for rank in range(1, self.top + 1)]
        pairs = [("label", "confidence"), *ranked]
        return tuple(column for label, sure in pairs for column in (Column(label, words), Column(sure)))


@dataclass(frozen=True, slots=True)
class Rows:
    """What is told of consecutive cells.

    Attributes
    ----------
    first_row
        Row of the first cell.
    cells
        Names.
    vectors
        (n_cells, dim) float32 of unit length, NaN for a cell without one.
    reasons
        Why a cell has no vector; empty where it has one.
    columns
        ``label``, ``confidence`` and the candidates, where these were asked for: (n_cells,) texts, None for none, or
        float32, NaN for none.
    """

    first_row: int
    cells: list[str]
    vectors: NDArray[np.float32]
    reasons: tuple[str, ...]
    columns: dict[str, NDArray[Any]]
