"""Tasks: what becomes of the model's answers. One short file each; all have the shape of `Task`."""

from typing import Protocol

from scgpt_infer.writers.sink import Column, Kind, Part, Record
from scgpt_runtime.cells import Result

__all__ = ["Task"]


class Task(Protocol):
    """Turns the model's answers for a block of cells into rows of a result."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """What it tells of each cell, beside the vector."""
        ...

    @property
    def kind(self) -> Kind:
        """What its result tells."""
        ...

    @property
    def facts(self) -> Record:
        """What decides its answers, for the record that goes with them."""
        ...

    def __call__(self, result: Result) -> Part:
        """The rows of a block, in order."""
        ...
