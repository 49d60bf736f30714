"""Cells and model opened for a job, within the memory that it is granted: `open_within`, `minded`.

In: what a user names. Out: an open source and an open `Model`, and a watch around the work. It does none of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scgpt_infer.memory.budget import Budget
from scgpt_infer.memory.watch import Watch
from scgpt_infer.model import Model, Say, cells_of
from scgpt_infer.options import EmbedOptions
from scgpt_infer.readers import CellSource
from scgpt_infer.readers.room import ROOM, ReadingRoom
from scgpt_infer.readers.source import CellPaths
from scgpt_infer.run import Progress
from scgpt_infer.work import WorkOptions

__all__ = ["minded", "open_within"]

_ALL = WorkOptions()
# A process that leaves the work to others reads names and a sample: its part of all that is granted.
_PARENT = 16


@contextmanager
def open_within(
    cells: CellPaths,
    model: Path | str,
    options: EmbedOptions,
    work: WorkOptions = _ALL,
    *,
    cache_dir: Path | None = None,
    say: Say | None = None,
    by_others: bool = False,
    budget: Budget | None = None,
) -> Iterator[tuple[CellSource, Model]]:
    """Open the cells and the model of a job.

    Parameters
    ----------
    cells, model, options, cache_dir, say
        See `scgpt_infer.embed_file`.
    work
        Says what memory this process may hold, with all that it starts, and whether a bad file is an error.
    by_others
        Other processes do the work, so that the model is not run here.
    budget
        Of a worker, instead of what `work` says of memory.

    Raises
    ------
    OptionError
        So much memory does not do. The message says the least that works.
    """
    strict = work.strict
    budget = budget or (None if work.memory is None else Budget(work.memory))
    if budget is None or by_others:
        room = ROOM if budget is None else ReadingRoom.within(budget.memory // _PARENT)
        with (
            cells_of(cells, options, room, strict=strict) as source,
            Model.open(model, options, cache_dir=cache_dir, say=say, when_needed=by_others) as known,
        ):
            yield source, known
        return
    with Model.open(model, options, cache_dir=cache_dir, say=say) as known:

        def opening(room: ReadingRoom) -> CellSource:
            return cells_of(cells, options, room, strict=strict)

        with budget.opened(known.engine, opening) as source:
            yield source, known


@contextmanager
def minded(memory: int | None, progress: Progress | None = None) -> Iterator[Progress | None]:
    """Mind the memory of a job: gives the progress to tell, which also ends the job before it holds too much.

    Parameters
    ----------
    memory
        Bytes that this process may hold, with all that it starts. None: nothing is minded, and `progress` comes back.
    progress
        Told what it is told.
    """
    if memory is None:
        yield progress
        return
    with Watch(memory) as watch:
        yield watch.telling(progress)
