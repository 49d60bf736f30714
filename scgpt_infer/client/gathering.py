"""All answers in memory, and the cells with them: `Gathering`.

In: the rows of each request, in order. Out: an AnnData, as `scgpt_infer.embed` gives it. It knows no server.
"""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from scgpt_infer.attaching import Attaching
from scgpt_infer.client.asking import Asking
from scgpt_infer.client.question import PREFIX
from scgpt_infer.job import check_inplace
from scgpt_infer.output import check_key
from scgpt_infer.readers.source import CellPaths
from scgpt_infer.run import Progress
from scgpt_infer.writers.memory import MemorySink
from scgpt_infer.writers.sink import Part

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Gathering"]

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Gathering:
    """Takes the answers to cells, and adds them to these.

    Attributes
    ----------
    asking
        What was asked.
    place
        Where the result goes.
    sink
        The answers.
    inplace
        Whether it goes into the caller's own object.
    progress
        Told the cells done and the cells in all.
    n_bad
        Cells without an embedding, so far.
    """

    asking: Asking
    place: Attaching
    sink: MemorySink
    inplace: bool
    progress: Progress | None
    n_bad: int = 0

    @classmethod
    def of(cls, asking: Asking, cells: "AnnData | CellPaths", inplace: bool, progress: Progress | None) -> Self:
        """Make room.

        Raises
        ------
        OutputError, OptionError
            Something of the user's would be replaced, or the cells cannot be added to.
        """
        check_inplace(cells, inplace, asking.how.embedding())
        check_key(cells, asking.key)
        columns, kind = asking.columns, asking.question.kind
        place = Attaching(cells, asking.source, asking.n_cells, asking.key, columns, PREFIX, kind=kind)
        place.check()
        return cls(asking, place, MemorySink.of(asking.n_cells, asking.model.dim, columns), inplace, progress)

    def take(self, part: Part) -> None:
        """Take the next rows."""
        self.sink.write(part)
        self.n_bad += sum(map(bool, part.reasons))
        if self.progress is not None:
            self.progress(part.stop, self.asking.n_cells)

    def attached(self) -> "AnnData":
        """The cells with their result."""
        if self.n_bad:
            _log.warning("%d of %d cells have no embedding (NaN)", self.n_bad, self.asking.n_cells)
        self.sink.commit(self.asking.record(self.n_bad))
        return self.place.attached(self.sink, self.inplace)
