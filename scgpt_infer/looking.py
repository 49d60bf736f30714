"""A look at a job as whoever would do it sees it: `look_at`, by one process, or by the first of several workers.

In: what a user names. Out: a `Preview`, or the error that the job would end with before it begins. Nothing is written
and no worker is started.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scgpt_infer.job import check_share
from scgpt_infer.memory import Budget
from scgpt_infer.memory.opening import open_within
from scgpt_infer.model import Model, Say
from scgpt_infer.options import EmbedOptions
from scgpt_infer.preview import Preview
from scgpt_infer.readers.source import CellPaths
from scgpt_infer.scale.opening import seats_here, shared
from scgpt_infer.scale.seats import Seat
from scgpt_infer.work import WorkOptions

__all__ = ["look_at"]


def look_at(
    cells: CellPaths,
    path: Path | None,
    model: str | Path,
    options: EmbedOptions,
    work: WorkOptions,
    *,
    cache_dir: Path | None = None,
    say: Say | None = None,
) -> Preview:
    """Say what a job would do.

    Parameters
    ----------
    cells, model, options, work, cache_dir, say
        See `scgpt_infer.embed_file`.
    path
        The output; None: room and parts are not looked at.
    """
    check_share(work, options)
    if not shared(work, options):
        with open_within(cells, model, options, work, cache_dir=cache_dir, say=say) as (source, known):
            return known.look(source, path, work)
    seats = _seats(model, options, work, cache_dir, say)
    seat = seats[0]
    options = replace(options, device=seat.device, threads=seat.threads, instances=seat.instances)
    if work.ray is None:
        work = replace(work, workers=len(seats))
    how: dict[str, Any] = {"cache_dir": cache_dir, "say": say, "budget": seat.budget}
    with open_within(cells, model, options, work, **how) as (source, known):
        return known.look(source, path, work, _places(seats))


def _seats(
    model: str | Path, options: EmbedOptions, work: WorkOptions, cache_dir: Path | None, say: Say | None
) -> list[Seat]:
    """What each worker would have; of a Ray cluster, which is not asked, a worker on this machine."""
    if work.ray is not None:
        budget = None if work.memory is None else Budget(work.memory).part(work.workers or 1)
        return [Seat("auto", options.threads, options.instances, budget=budget)]
    with Model.open(model, options, cache_dir=cache_dir, say=say, when_needed=True) as known:
        return seats_here(work, options, known.bundle.manifest)


def _places(seats: Sequence[Seat]) -> int:
    """GPUs, or groups of cores, that work at a time: two workers on one are no faster than one."""
    return len({(seat.device, seat.cores) for seat in seats})
