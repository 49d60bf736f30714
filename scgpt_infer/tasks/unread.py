"""A task over cells of which some could not be read: they say so, and not that they have no values.

In: any task, and what knows such rows. Out: the same rows with those reasons.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from scgpt_infer.tasks import Task
from scgpt_infer.writers.sink import Column, Kind, Part, Record
from scgpt_runtime.cells import Result

__all__ = ["TellingUnread"]


@dataclass(frozen=True, slots=True)
class TellingUnread:
    """A task, and the reasons of rows that came without a value.

    Attributes
    ----------
    task
        Makes the rows; one without a value has no vector.
    unread
        Gives those of the rows start to stop that could not be read, with the reason.
    """

    task: Task
    unread: Callable[[int, int], Mapping[int, str]]

    @property
    def columns(self) -> tuple[Column, ...]:
        """Those of the task."""
        return self.task.columns

    @property
    def kind(self) -> Kind:
        """That of the task."""
        return self.task.kind

    @property
    def facts(self) -> Record:
        """Those of the task."""
        return self.task.facts

    def __call__(self, result: Result) -> Part:
        """The rows of a block."""
        part = self.task(result)
        unread = self.unread(part.first_row, part.first_row + part.n_cells)
        if not unread:
            return part
        reasons = [unread.get(part.first_row + place, reason) for place, reason in enumerate(part.reasons)]
        return replace(part, reasons=tuple(reasons))
