"""A task over several files: a cell whose row could not be read says so, and not that it has no values.

In: any task, and the source that knows such rows. Out: the same rows with those reasons.
"""

from dataclasses import dataclass, replace

from scgpt_infer.readers import CellSource
from scgpt_infer.readers.source import SetOfFiles
from scgpt_infer.tasks import Task
from scgpt_infer.writers.sink import Column, Kind, Part, Record
from scgpt_runtime.cells import Result

__all__ = ["TellingUnread", "telling_unread"]


def telling_unread(task: Task, source: CellSource) -> Task:
    """The task, which tells the reasons of a source of several files where it is one."""
    return TellingUnread(task, source) if isinstance(source, SetOfFiles) else task


@dataclass(frozen=True, slots=True)
class TellingUnread:
    """A task and the reasons of its source.

    Attributes
    ----------
    task
        Makes the rows. One that could not be read came without a value, so that it has no vector.
    source
        Several files.
    """

    task: Task
    source: SetOfFiles

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
        unread = self.source.unread(part.first_row, part.first_row + part.n_cells)
        if not unread:
            return part
        reasons = [unread.get(part.first_row + place, reason) for place, reason in enumerate(part.reasons)]
        return replace(part, reasons=tuple(reasons))
