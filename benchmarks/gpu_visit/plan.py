"""Which stages a visit to a GPU machine has, what each may cost, and which are dropped when time is short.

In: names and seconds. Out: stages in the order in which they run. It starts nothing and knows no GPU.
"""

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["BUDGET", "REHEARSAL_BUDGET", "STAGES", "Stage", "affordable", "granted", "named"]

BUDGET = 570.0
"""Seconds of a visit: commands on lent machines are often stopped after ten minutes, and an end takes a moment."""

REHEARSAL_BUDGET = 175.0


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a visit that has a process of its own.

    Attributes
    ----------
    name
        For options, files and the key in the results.
    what
        For people.
    expected
        Seconds that it is expected to take on a GPU machine: what it takes of the budget before it has run.
    limit
        Seconds after which it is stopped, whatever is left.
    rehearsal
        Seconds that it is expected to take in a rehearsal.
    rank
        Importance: the largest is dropped first.
    alongside
        It computes nothing on the GPU, so others that do not need it run at the same time.
    needs_bundle
        It waits for the stage ``bundle``.
    """

    name: str
    what: str
    expected: float
    limit: float
    rehearsal: float
    rank: int
    alongside: bool = False
    needs_bundle: bool = True


STAGES = (
    Stage("facts", "what the machine is", 20, 60, 5, 0, needs_bundle=False),
    Stage("bundle", "a random checkpoint of full size and its bundle", 60, 240, 30, 1, alongside=True),
    Stage("peaks", "measured peaks of products and copies", 30, 60, 5, 4, needs_bundle=False),
    Stage("parity", "parity and contract, before anything is timed", 60, 180, 15, 2),
    Stage("peers", "PyTorch and scgpt-infer in turn", 120, 200, 20, 3),
    Stage("cells", "cells to vectors through the runtime", 75, 150, 15, 5),
    Stage("profile", "kernels of one batch", 60, 150, 15, 6),
    Stage("sweep", "length, tokens in a batch, dialect, precision", 90, 150, 15, 7),
    Stage("compiled", "compiled PyTorch and scgpt-infer in turn", 150, 300, 25, 8),
    Stage("checks", "the tests that need a GPU", 60, 150, 10, 9),
)
"""In the order in which they run: a visit that is cut off has its most telling figures."""


def named(names: Iterable[str]) -> tuple[Stage, ...]:
    """Stages by name, in the order in which they run; ``facts`` always, and ``bundle`` with those that wait for it.

    Raises
    ------
    SystemExit
        A name that does not exist.
    """
    wanted = set(names)
    unknown = sorted(wanted - {stage.name for stage in STAGES})
    if unknown:
        raise SystemExit(f"Unknown stages {', '.join(unknown)}; there are {', '.join(stage.name for stage in STAGES)}.")
    waits = any(stage.name in wanted and stage.needs_bundle and not stage.alongside for stage in STAGES)
    wanted |= {"facts", "bundle"} if waits else {"facts"}
    return tuple(stage for stage in STAGES if stage.name in wanted)


def affordable(stages: Iterable[Stage], seconds: float, rehearsal: bool = False) -> tuple[Stage, ...]:
    """Those that fit into the time that is left; the least important are dropped first.

    A stage that runs alongside counts for as much as it outlasts those that do not wait for it.
    """
    kept = list(stages)
    while kept and cost(kept, rehearsal) > seconds:
        kept.remove(max(kept, key=lambda stage: stage.rank))
    return tuple(kept)


def cost(stages: Iterable[Stage], rehearsal: bool = False) -> float:
    """Seconds that stages are expected to take together."""
    counted = list(stages)
    beside = sum(_expected(stage, rehearsal) for stage in counted if stage.alongside)
    meanwhile = sum(_expected(stage, rehearsal) for stage in counted if not stage.alongside and not stage.needs_bundle)
    rest = sum(_expected(stage, rehearsal) for stage in counted if not stage.alongside and stage.needs_bundle)
    return max(beside, meanwhile) + rest


def granted(stage: Stage, later: Iterable[Stage], left: float, rehearsal: bool = False) -> float:
    """Seconds that a stage may take: what those after it are not expected to need, up to its limit."""
    return max(0.0, min(stage.limit, left - sum(_expected(other, rehearsal) for other in later)))


def _expected(stage: Stage, rehearsal: bool) -> float:
    return stage.rehearsal if rehearsal else stage.expected
