"""From the words of a user to a crew: `crew_of`, who works and where.

In: an errand, work options. Out: an open `Crew`. It does no work.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from scgpt_infer.memory import Budget
from scgpt_infer.options import EmbedOptions
from scgpt_infer.scale.crew import Crew
from scgpt_infer.scale.errand import Errand
from scgpt_infer.scale.processes import Processes
from scgpt_infer.scale.seats import Seat, on_cores, on_gpus
from scgpt_infer.work import WorkOptions
from scgpt_runtime.choosing import Asked, candidates
from scgpt_runtime.errors import OptionError
from scgpt_runtime.manifest import Manifest
from scgpt_runtime.providers import ON_GPU, obstacle

__all__ = ["crew_of", "seats_here", "shared"]

_log = logging.getLogger(__name__)


def shared(work: WorkOptions, options: EmbedOptions) -> bool:
    """Whether the work is for a crew."""
    return work.ray is not None or work.workers is not None or options.device == "all"


@contextmanager
def crew_of(errand: Errand, work: WorkOptions, say: Callable[[str], None] | None = None) -> Iterator[Crew]:
    """A crew, its workers started as the work needs them.

    Parameters
    ----------
    errand
        What the workers are to do.
    work
        How many workers, and where.
    say
        Told of what takes time.

    Raises
    ------
    ScgptInferError
        The workers that were asked for cannot be had.
    """
    options, say = errand.options, say or _log.info
    if work.ray is None:
        with Crew(Processes(), errand, seats_here(work, options, errand.manifest), say) as crew:
            yield crew
        return
    from scgpt_infer.scale.actors import Actors, cluster_seats, connected, has_gpus

    if options.device not in ("auto", "all"):
        raise OptionError(f"device is {options.device!r}; with Ray leave it at auto: the cluster shares GPUs out.")
    with connected(work.ray):
        gpu = options.provider in ON_GPU or (options.provider == "auto" and has_gpus())
        seats = _within(work.memory, cluster_seats(work.workers, options.threads, options.instances, gpu))
        with Crew(Actors(gpu), errand, seats, say) as crew:
            yield crew


def seats_here(work: WorkOptions, options: EmbedOptions, manifest: Manifest) -> list[Seat]:
    """Seats of a crew on this machine, each with its part of the memory.

    Raises
    ------
    OptionError
        So many cannot be had, or so little memory leaves nothing for them.
    """
    return _within(work.memory, _seats_here(work.workers, options, manifest))


def _within(memory: int | None, seats: list[Seat]) -> list[Seat]:
    """The seats, each with its part of the memory."""
    if memory is None:
        return seats
    part = Budget(memory).part(len(seats))
    return [replace(seat, budget=part) for seat in seats]


def _seats_here(workers: int | None, options: EmbedOptions, manifest: Manifest) -> list[Seat]:
    """Seats on this machine: its GPUs, where they run the model, or its cores."""
    on_gpu = options.provider in ON_GPU or (options.provider == "auto" and obstacle("cuda") is None)
    if on_gpu or options.device not in ("auto", "all", "0"):  # a GPU that is named where there is none is refused there
        asked = Asked(options.provider, options.precision, options.device)
        devices = candidates(manifest, asked)[0].devices
        if devices:
            return on_gpus(devices, workers, options.instances)
    return on_cores(workers, options.threads, options.instances)
