"""A precision or provider that was not measured at export proves itself on the golden cells before it is used.

In: a bundle and an open ``embed`` graph. Out: the figure of the worst cell, or an error. It reads no cells of users.
"""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.batching import BATCH_TOKENS, batches, plan_for
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import TokenBlock
from scgpt_runtime.errors import DeviceMemoryError, ProviderError
from scgpt_runtime.golden import Golden
from scgpt_runtime.gpus import driver, gpus
from scgpt_runtime.instances import Instances
from scgpt_runtime.machine import processor
from scgpt_runtime.providers import ProviderChoice, cuda_versions, installed
from scgpt_runtime.remembered import Remembered
from scgpt_runtime.runners import open_graph
from scgpt_runtime.session import GraphRunner

__all__ = ["LIMITS", "golden_tokens", "hardware", "one_minus_cosine", "prove", "worst_of"]

LIMITS = {"fp32": 1e-6, "fp16": 1e-4, "bf16": 1e-3, "int8": 1e-2}
"""Precision to the largest 1 - cosine to the fp32 reference that any golden cell may have."""

_BUDGET = 256
"""Tokens of a batch on a processor; on a GPU those that run later, since kernels are chosen by shape."""


def prove(
    bundle: Bundle, choice: ProviderChoice, runner: GraphRunner, task: str, cache_dir: Path | None = None
) -> float | None:
    """Hold what a choice computes against the bundle's golden vectors, once per bundle, processor or GPU, and library.

    Parameters
    ----------
    bundle
        An opened bundle.
    choice
        What runs.
    runner
        The open graph of the task; used if the task is ``embed``, else one is opened for the proof.
    task
        The task that is wanted.
    cache_dir
        Where a proof is remembered; None: proven at each start.

    Returns
    -------
    float or None
        1 - cosine of the worst golden cell; None where the export has measured this already, or the bundle has no
        ``embed`` graph to prove.

    Raises
    ------
    ProviderError
        A cell is further from the reference than the precision may be.
    """
    tasks = {graph.task for graph in bundle.manifest.graphs}
    if choice.provider == "cpu" or "embed" not in tasks:
        return None
    # What TensorRT compiles depends on more than a key could hold: it is proven at each start.
    lasting = None if choice.provider == "tensorrt" else cache_dir
    remembered = Remembered(lasting, "proofs", _depends_on(bundle, choice))
    known = remembered.recall()
    if isinstance(known, float):
        worst = known
    else:
        worst = _worst(bundle, choice, runner if task == "embed" else None, cache_dir)
    if not worst <= LIMITS[choice.precision]:
        raise ProviderError(
            f"{runner.provider} in {choice.precision} answers wrongly on this machine: 1 - cosine of the worst golden "
            f"cell is {worst:.2g}, at most {LIMITS[choice.precision]:.2g} is allowed. "
            "Take --provider cpu, or another --precision."
        )
    if known != worst and math.isfinite(worst):
        remembered.keep(worst)
    return worst


def worst_of(golden: Golden, found: NDArray[np.float32]) -> float:
    """1 - cosine of the worst golden cell."""
    return float(one_minus_cosine(found, golden.vectors).max(initial=0.0))


def one_minus_cosine(found: NDArray[np.float32], expected: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n_cells,) float64 1 - cosine of each row of two (n_cells, dim) arrays, infinite where a row is not finite.

    Half the squared distance of the two unit vectors: 1 minus a product would lose what fp32 is judged by.
    """
    units = []
    for rows in (found, expected):
        wide = rows.astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            units.append(wide / np.linalg.norm(wide, axis=1, keepdims=True))
    distance: NDArray[np.float64] = ((units[0] - units[1]) ** 2).sum(axis=1) / 2
    return np.where(np.isfinite(distance), distance, math.inf)


def golden_tokens(golden: Golden) -> TokenBlock:
    """The golden cells as the tokens that were sealed with them."""
    return TokenBlock(golden.ids, golden.values, golden.offsets, np.zeros(golden.n_cells, np.uint8), 0)


def hardware(devices: tuple[int, ...]) -> list[str]:
    """What computes, for a key: GPUs by kind with driver and cuDNN, or the processor with its instruction sets."""
    if not devices:
        chip = processor()
        return [chip.name, *chip.features]
    kinds = sorted({f"{gpu.name} {gpu.compute}" for gpu in gpus() if gpu.index in devices})
    found, versions = driver(), cuda_versions()
    return [*kinds, found.name if found else "", f"cuDNN {versions.cudnn}"]


def _worst(bundle: Bundle, choice: ProviderChoice, runner: GraphRunner | None, cache_dir: Path | None) -> float:
    opened = runner or open_graph(bundle, "embed", choice, cache_dir)
    budget = BATCH_TOKENS[choice.provider] if choice.devices else _BUDGET
    try:
        while True:
            try:
                return worst_of(bundle.golden(), _vectors(bundle, choice, opened, budget))
            except DeviceMemoryError:
                if budget <= _BUDGET:
                    raise
                budget //= 2  # as the engine itself goes on
    finally:
        if runner is None:
            opened.close()


def _vectors(bundle: Bundle, choice: ProviderChoice, runner: GraphRunner, budget: int) -> NDArray[np.float32]:
    """(n_cells, dim) float32 what a graph makes of the golden cells."""
    golden, settings = bundle.golden(), bundle.manifest.tokenizer
    found = np.full(golden.vectors.shape, np.nan, np.float32)
    made = batches(golden_tokens(golden), settings, plan_for(choice, settings, budget))
    with Instances[None](runner.run, choice.instances) as instances:
        for done in instances.answers((None, batch) for batch in made):
            (found[done.batch.cells],) = done.answers.values()
    return found


def _depends_on(bundle: Bundle, choice: ProviderChoice) -> dict[str, object]:
    return {
        "golden": bundle.sha256("golden.npz"),
        "graph": bundle.sha256(bundle.graph("embed", choice.sealed, choice.dialect).path),
        "weights": bundle.manifest.weights,
        "provider": choice.provider,
        "precision": choice.precision,
        "version": installed(),
        "hardware": hardware(choice.devices),
    }
