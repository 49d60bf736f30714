"""What each worker has of a machine: `Seat`, a GPU or some of the cores.

In: what was asked for, the cores of this machine. Out: one seat a worker. It starts nothing.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from scgpt_infer.memory import Budget
from scgpt_runtime.machine import CoreReport, cores

__all__ = ["Seat", "core_groups", "on_cores", "on_gpus"]


@dataclass(frozen=True, slots=True)
class Seat:
    """What one worker has.

    Attributes
    ----------
    device
        See `scgpt_infer.options.EmbedOptions`.
    threads
        Cores that it keeps busy. None: those it finds.
    instances
        Batches that it answers at a time. None: as many as pays there.
    cores
        Numbers of the cores that it may run on; empty: all.
    budget
        Memory that it may hold. None: no bound.
    """

    device: str = "auto"
    threads: int | None = None
    instances: int | None = None
    cores: tuple[int, ...] = ()
    budget: Budget | None = None


def on_gpus(devices: Sequence[int], workers: int | None, instances: int | None) -> list[Seat]:
    """Seats on GPUs of this machine, one each; more workers than GPUs go round.

    Parameters
    ----------
    devices
        Numbers of the GPUs.
    workers
        How many; None: one for each.
    instances
        Batches at a time of all of them.
    """
    count = workers or len(devices)
    each = None if instances is None else max(1, instances // count)
    return [Seat(str(devices[number % len(devices)]), instances=each) for number in range(count)]


def on_cores(
    workers: int | None,
    threads: int | None,
    instances: int | None,
    root: Path = Path("/"),
    report: CoreReport | None = None,
) -> list[Seat]:
    """Seats on the cores of this machine, shared out evenly.

    Parameters
    ----------
    workers
        How many; None: one for each memory node (NUMA).
    threads, instances
        Of all of them; None: what there is.
    root
        Where ``sys`` is found.
    report
        The cores that there are; None: asked of the machine.
    """
    found = report or cores(root)
    groups = core_groups(workers, root)
    total = min(threads or found.usable, found.affinity)
    each = None if instances is None else max(1, instances // len(groups))
    share = max(1, total // len(groups))
    return [Seat("auto", min(share, len(group)), each and min(each, share), group) for group in groups]


def core_groups(count: int | None, root: Path = Path("/")) -> list[tuple[int, ...]]:
    """The cores that this process may use, in groups that share what is near: memory, and hardware threads of a core.

    Parameters
    ----------
    count
        Groups; None: one for each memory node.
    root
        Where ``sys`` is found.
    """
    granted = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    nodes = [node & granted for node in _nodes(root)]
    nodes = [node for node in nodes if node] or [granted]
    if count is None:
        return [tuple(sorted(node)) for node in nodes]
    # Hardware threads of one core go together: two workers on one core would share its arithmetic.
    units = [unit for node in nodes for unit in _units(node, root)]
    if count > len(units):
        every = [core for unit in units for core in unit]
        return [(every[number % len(every)],) for number in range(count)]
    bounds = [number * len(units) // count for number in range(count + 1)]
    return [tuple(core for unit in units[low:high] for core in unit) for low, high in pairwise(bounds)]


def _nodes(root: Path) -> list[set[int]]:
    """Cores of each memory node; empty where the system does not tell."""
    found = sorted((root / "sys/devices/system/node").glob("node[0-9]*/cpulist"), key=lambda path: path.parent.name)
    return [_numbers(path) for path in found]


def _units(node: set[int], root: Path) -> list[tuple[int, ...]]:
    """Cores of a node, hardware threads of one together."""
    units: dict[tuple[int, ...], None] = {}
    for core in sorted(node):
        siblings = _numbers(root / f"sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list") or {core}
        units[tuple(sorted(siblings & node)) or (core,)] = None
    return list(units)


def _numbers(path: Path) -> set[int]:
    """Numbers of a list such as ``0-3,8``."""
    try:
        pieces = path.read_text(encoding="ascii").strip().split(",")
    except OSError:
        return set()
    ends = [piece.partition("-") for piece in pieces if piece]
    return {number for low, _, high in ends for number in range(int(low), int(high or low) + 1)}
