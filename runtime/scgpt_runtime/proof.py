"""A precision or provider that was not measured at export proves itself on the golden cells before it is used.

In: a bundle and an open graph. Out: the figure of the worst cell, or an error. It reads no cells of users.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.batching import BATCH_TOKENS, BatchPlan, batches, plan_for
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import AnyBatch, Batch, TokenBlock
from scgpt_runtime.errors import DeviceMemoryError, ProviderError
from scgpt_runtime.golden import Golden
from scgpt_runtime.gpu_session import GpuSession
from scgpt_runtime.gpus import driver, gpus
from scgpt_runtime.instances import Instances
from scgpt_runtime.machine import processor
from scgpt_runtime.manifest import CUDA_DIALECTS, TokenizerSettings
from scgpt_runtime.packing import pad_level
from scgpt_runtime.profiles import MEASURE, worst_profile
from scgpt_runtime.providers import ProviderChoice, cuda_versions, installed
from scgpt_runtime.remembered import Remembered
from scgpt_runtime.runners import open_graph
from scgpt_runtime.session import GraphRunner
from scgpt_runtime.tensorrt import bucket_for

__all__ = [
    "LIMITS",
    "golden_labels",
    "golden_tokens",
    "hardware",
    "one_minus_cosine",
    "prove",
    "worst_answer",
    "worst_of",
]

LIMITS = {"fp32": 1e-6, "fp16": 1e-4, "bf16": 1e-3, "int8": 1e-2}
"""Precision to the largest 1 - cosine to the fp32 reference that any golden cell may have."""

_BUDGET = 256
"""Tokens of a batch on a processor; on a GPU those that run later, since kernels are chosen by shape."""

_RECIPE = 2
"""Raised when more is proven than before, so that what was proven less thoroughly is proven again."""

_PARTS = 8
"""Where recordings are proven, the small batches hold at most this part of what a large one does."""


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
        The open graph of the task; used if the golden vectors can be seen in its answers, else ``embed`` is opened for
        the proof.
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
    if choice.provider == "cpu" or not {"embed", task} & tasks:
        return None
    proven = task if task == "perturb" or _shows_vectors(bundle, task) else "embed"
    # What TensorRT compiles depends on more than a key could hold: it is proven at each start.
    lasting = None if choice.provider == "tensorrt" else cache_dir
    remembered = Remembered(lasting, "proofs", _depends_on(bundle, proven, choice))
    known, recorded = remembered.recall(), True
    if isinstance(known, float):
        worst = known
    else:
        worst, recorded = _worst(bundle, choice, runner if task == proven else None, cache_dir)
    if not worst <= LIMITS[choice.precision]:
        measure = MEASURE if proven == "perturb" else "1 - cosine"
        raise ProviderError(
            f"{runner.provider} in {choice.precision} answers wrongly on this machine: {measure} of the worst golden "
            f"cell is {worst:.2g}, at most {LIMITS[choice.precision]:.2g} is allowed. "
            "Take --provider cpu, or another --precision."
        )
    if known != worst and math.isfinite(worst) and recorded:
        remembered.keep(worst)
    return worst


def worst_answer(bundle: Bundle, choice: ProviderChoice, runner: GraphRunner) -> float:
    """1 - cosine of the worst golden cell, whatever way the graph is taken to it; of a generator see `worst_profile`.

    Once, in batches as they run later; where CUDA graphs are recorded, as often as it takes (`_worst_replayed`); by
    each of TensorRT's engines. Where memory runs out, with half the tokens in a batch, as the engine itself goes on.

    Parameters
    ----------
    bundle, choice
        What runs.
    runner
        The open ``embed``, ``tokens`` or ``perturb`` graph; nothing else may use it meanwhile.

    Raises
    ------
    DeviceMemoryError
        Not even a small batch fits.
    """
    golden = bundle.golden()
    replays = bool(choice.devices) and choice.dialect in CUDA_DIALECTS
    budget = BATCH_TOKENS[choice.provider] if choice.devices else _BUDGET
    while True:
        try:
            if golden.profiles is not None:
                return worst_profile(golden, _batches(bundle, choice, budget), runner, choice.instances)
            if replays:
                return _worst_replayed(bundle, choice, runner, budget)
            if choice.provider == "tensorrt":
                return _worst_by_bucket(bundle, choice, runner, budget)
            return worst_of(golden, _vectors(golden, _batches(bundle, choice, budget), runner, choice.instances))
        except DeviceMemoryError:
            if budget <= _BUDGET:
                raise
            budget //= 2


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


def golden_tokens(golden: Golden, n_batches: int = 0) -> TokenBlock:
    """The golden cells as the tokens that were sealed with them, with batch labels where a model has so many."""
    faults, labels = np.zeros(golden.n_cells, np.uint8), golden_labels(golden, n_batches)
    return TokenBlock(golden.ids, golden.values, golden.offsets, faults, 0, labels, golden.flags)


def golden_labels(golden: Golden, n_batches: int) -> NDArray[np.int32] | None:
    """(n_cells,) batch labels of the golden cells: all of a model's in turn; None where it has none."""
    return np.arange(golden.n_cells, dtype=np.int32) % n_batches if n_batches else None


def hardware(devices: tuple[int, ...]) -> list[str]:
    """What computes, for a key: GPUs by kind with driver and cuDNN, or the processor with its instruction sets."""
    if not devices:
        chip = processor()
        return [chip.name, *chip.features]
    kinds = sorted({f"{gpu.name} {gpu.compute}" for gpu in gpus() if gpu.index in devices})
    found, versions = driver(), cuda_versions()
    return [*kinds, found.name if found else "", f"cuDNN {versions.cudnn}"]


def _shows_vectors(bundle: Bundle, task: str) -> bool:
    """Whether the golden vectors can be seen in a task's answers: they are the hidden state of ``<cls>``."""
    return task == "embed" or (task == "tokens" and bundle.manifest.pooling == "cls")


def _of_cells(answers: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """(n_cells, dim) vectors: the answers themselves, or of those for all tokens the ones for ``<cls>``."""
    (found,) = answers.values()
    return found if found.ndim == 2 else found[:, 0]


def _worst(
    bundle: Bundle, choice: ProviderChoice, runner: GraphRunner | None, cache_dir: Path | None
) -> tuple[float, bool]:
    """The worst golden cell, and whether that holds for later: not where a GPU stopped recording on the way."""
    opened = runner or open_graph(bundle, "embed", choice, cache_dir)
    began = _records(opened)
    try:
        worst = worst_answer(bundle, choice, opened)
        return worst, _records(opened) == began
    finally:
        if runner is None:
            opened.close()


def _records(runner: GraphRunner) -> bool:
    """Whether all lanes of a session record CUDA graphs."""
    return isinstance(runner, GpuSession) and runner.recording


def _worst_replayed(bundle: Bundle, choice: ProviderChoice, runner: GraphRunner, budget: int) -> float:
    """The worst of all passes over the golden cells, once every lane has recorded and replayed every shape.

    A recording is wrong if it remembers what it was recorded with: cells, or memory that has since moved. So every
    shape is recorded with other cells than it is judged by, small ones before large ones have grown what they share,
    and each is replayed before and after the others. One batch at a time goes to all lanes in turn, in the end several
    at once.
    """
    golden, lanes = bundle.golden(), choice.instances
    small, large = (_batches(bundle, choice, most) for most in (max(1, min(budget, len(golden.ids)) // _PARTS), budget))
    recorded = set()
    for batch in (*small[::-1], *large[::-1]):  # batches come longest first
        shapes = tuple(array.shape for array in batch.arrays.values())
        if shapes not in recorded:
            recorded.add(shapes)
            other = _emptied(batch, bundle.manifest.tokenizer)
            for _ in range(2 * lanes):  # most shapes are recorded when they come again
                runner.run(other)
    passes = [found for made in (small, large, small[::-1]) for found in _vectors_by_lane(golden, made, runner, lanes)]
    passes += [_vectors(golden, made, runner, lanes) for made in (large, small)]
    return max(worst_of(golden, found) for found in passes)


def _worst_by_bucket(bundle: Bundle, choice: ProviderChoice, runner: GraphRunner, budget: int) -> float:
    """The worst of all buckets of lengths: an engine was compiled for each, and every one answers the golden cells
    that it has room for, padded to its longest.
    """
    golden, settings = bundle.golden(), bundle.manifest.tokenizer
    worst, longest = 0.0, 0
    while longest < settings.max_length:
        longest = bucket_for(longest + 1, settings.max_length).longest
        tokens = _no_longer_than(golden_tokens(golden, len(bundle.manifest.batches)), longest)
        held = np.flatnonzero(np.diff(tokens.offsets))
        made = batches(tokens, settings, BatchPlan("padded", budget, step=longest))
        found = _vectors(golden, made, runner, choice.instances)
        worst = max(worst, float(one_minus_cosine(found[held], golden.vectors[held]).max(initial=0.0)))
    return worst


def _no_longer_than(tokens: TokenBlock, longest: int) -> TokenBlock:
    """The same cells; those with more tokens have none."""
    lengths = np.diff(tokens.offsets)
    kept = lengths <= longest
    among = np.repeat(kept, lengths)  # (n_tokens,)
    offsets = np.concatenate([[0], np.cumsum(np.where(kept, lengths, 0))]).astype(np.int64)
    return replace(tokens, ids=tokens.ids[among], values=tokens.values[among], offsets=offsets)


def _batches(bundle: Bundle, choice: ProviderChoice, budget: int) -> list[AnyBatch]:
    settings = bundle.manifest.tokenizer
    tokens = golden_tokens(bundle.golden(), len(bundle.manifest.batches))
    return batches(tokens, settings, plan_for(choice, settings, budget, masked=tokens.flags is None))


def _emptied(batch: AnyBatch, settings: TokenizerSettings) -> AnyBatch:
    """A batch of the same shapes that holds padding alone, in cells of other lengths."""
    ids = np.full_like(batch.ids, settings.pad_id)
    values = np.full_like(batch.values, pad_level(settings, batch.values.dtype))
    if isinstance(batch, Batch):
        return replace(batch, ids=ids, values=values, lengths=np.ones_like(batch.lengths))
    each: NDArray[np.int64] = np.diff(batch.offsets)[::-1].astype(np.int64)  # (rows,)
    offsets = np.concatenate([[0], np.cumsum(each)]).astype(np.int32)
    firsts = np.where(each > 0, offsets[:-1], 0).astype(np.int32)
    return replace(batch, ids=ids, values=values, offsets=offsets, firsts=firsts)


def _vectors(golden: Golden, made: Sequence[AnyBatch], runner: GraphRunner, instances: int) -> NDArray[np.float32]:
    """(n_cells, dim) float32 what a graph makes of the golden cells, several batches at a time."""
    found = np.full(golden.vectors.shape, np.nan, np.float32)
    with Instances[None](runner.run, instances) as at_work:
        for done in at_work.answers((None, batch) for batch in made):
            found[done.batch.cells] = _of_cells(done.answers)
    return found


def _vectors_by_lane(golden: Golden, made: Sequence[AnyBatch], runner: GraphRunner, lanes: int) -> NDArray[np.float32]:
    """(lanes, n_cells, dim) float32 what each lane makes of the golden cells: the one that has rested longest is next,
    so each batch, as often as there are lanes, comes to each of them once.
    """
    found = np.full((lanes, *golden.vectors.shape), np.nan, np.float32)
    for batch in made:
        for lane in range(lanes):
            found[lane, batch.cells] = _of_cells(runner.run(batch))
    return found


def _depends_on(bundle: Bundle, task: str, choice: ProviderChoice) -> dict[str, object]:
    return {
        "task": task,
        "golden": bundle.sha256("golden.npz"),
        "graph": bundle.sha256(bundle.graph(task, choice.sealed, choice.dialect).path),
        "weights": bundle.manifest.weights,
        "provider": choice.provider,
        "precision": choice.precision,
        "version": installed(),
        "hardware": hardware(choice.devices),
        "lanes": choice.instances if choice.devices else None,
        "recipe": _RECIPE,
    }
