"""A perturbation generator's golden cells against its graph: the profiles that it predicts on this machine.

In: a `Golden` with flags and profiles, and an open graph. Out: the figure of the worst cell. A generator makes no
vectors worth the name: what stands at its first token is an ordinary gene.
"""

import math
from collections.abc import Iterable

import numpy as np

from scgpt_runtime.answering import GraphRunner
from scgpt_runtime.cells import AnyBatch
from scgpt_runtime.errors import InternalError
from scgpt_runtime.golden import Golden

__all__ = ["MEASURE", "main_task", "worst_profile"]

MEASURE = "half the squared relative error"
"""Of a profile: what 1 - cosine is for vectors that differ in direction alone, but length counts as well."""


def main_task(golden: Golden) -> str:
    """The task that the golden cells prove: ``perturb`` of a generator, ``embed`` of all other models."""
    return "embed" if golden.profiles is None else "perturb"


def worst_profile(golden: Golden, made: Iterable[AnyBatch], runner: GraphRunner, times: int = 1) -> float:
    """`MEASURE` of the worst golden cell's predicted profile; infinite where one is not finite.

    Parameters
    ----------
    golden
        The cells, with flags and profiles.
    made
        The same as batches.
    runner
        The open ``perturb`` graph.
    times
        How often each batch is answered: once by each instance.
    """
    if golden.profiles is None:
        raise InternalError("These golden cells are not those of a perturbation generator.")
    worst = 0.0
    for batch in made:
        for _ in range(times):
            found = runner.run(batch)["value"].astype(np.float64)  # (cells, tokens)
            for row, cell in enumerate(batch.cells):
                expected = golden.profiles[golden.offsets[cell] : golden.offsets[cell + 1]].astype(np.float64)
                with np.errstate(invalid="ignore", divide="ignore"):
                    error = float(((found[row] - expected) ** 2).sum() / (expected**2).sum() / 2)
                worst = max(worst, error if math.isfinite(error) else math.inf)
    return worst
