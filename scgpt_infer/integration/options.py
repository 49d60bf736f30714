"""How cells of several batches are integrated: `IntegrateOptions`, checked when it is made.

It knows the values that are allowed; it does not know which batches a model was trained on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from scgpt_runtime.errors import OptionError

__all__ = ["IntegrateOptions", "Statistics"]

Statistics = Literal["cell", "first"]
"""Whose batch statistics a cell is normalised with: those of its own batch, or, as scGPT's tutorial does where a
minibatch of 64 straddles two batches, those of the minibatch's first cell."""


@dataclass(frozen=True, slots=True)
class IntegrateOptions:
    """How cells get their batch, and by what the result is judged.

    Attributes
    ----------
    batch
        Column of ``obs`` with the batch of each cell. None: a model without statistics of batches needs none.
    batch_map
        Batch as the column names it to the model's name of it, where they differ.
    batch_fallback
        Batch of the model whose statistics cells get whose own batch is unknown or missing. None: an unknown batch is
        an error, and a cell without a batch has no vector.
    batch_statistics
        ``cell``: each cell has the statistics of its own batch, whatever it comes with. ``first``: the original's rule,
        under which a cell's vector depends on the other cells of the file.
    label
        Column of ``obs`` with cell types, for scores. None: no scores.
    ignore
        Cell types whose cells are left out of the scores, such as ``unknown``.

    Raises
    ------
    OptionError
        When a value is not allowed, or two do not go together.
    """

    batch: str | None = None
    batch_map: Mapping[str, str] = field(default_factory=dict)
    batch_fallback: str | None = None
    batch_statistics: Statistics = "cell"
    label: str | None = None
    ignore: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.batch_statistics not in get_args(Statistics):
            raise OptionError(f"batch_statistics is {self.batch_statistics!r}; expected cell or first.")
        if not all(isinstance(word, str) for pair in self.batch_map.items() for word in pair):
            raise OptionError('batch_map should read like {"my batch": "the model\'s batch"}; every name is a text.')
        if self.batch is None and self.label is not None:
            raise OptionError("Scores tell how batches mix: name the column of the batches (--batch, batch=...).")
        if self.batch is None and (self.batch_map or self.batch_fallback):
            raise OptionError(
                "batch_map and batch_fallback are about the batches of a column, and none was named (--batch, "
                "batch=...)."
            )
        if self.ignore and self.label is None:
            raise OptionError("ignore is about cell types: name their column (--label, label=...).")
