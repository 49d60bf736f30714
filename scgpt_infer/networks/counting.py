"""Cells that are done, added up for whoever shows progress.

In: numbers of cells. Out: calls with the cells done and the cells in all. It reads nothing.
"""

from dataclasses import dataclass

from scgpt_infer.run import Progress

__all__ = ["Count"]


@dataclass(slots=True)
class Count:
    """Adds up the cells that are done, and tells.

    Attributes
    ----------
    progress
        Told the cells done and the cells in all; None: nobody.
    total, done
        Cells in all, and those that are done.
    """

    progress: Progress | None
    total: int
    done: int = 0

    def __call__(self, cells: int) -> None:
        """So many more are done."""
        self.done += cells
        if self.progress is not None:
            self.progress(self.done, self.total)
