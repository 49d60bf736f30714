"""The whole benchmark: rounds over combinations, each in a process of its own, and figures made of the readings.

In: `BenchOptions`. Out: `BenchResult`. Combinations take turns within a round, so that a machine that slows down or
has other work meanwhile does not favour one of them.
"""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from scgpt_infer.bench.children import ask
from scgpt_infer.bench.energy import find_meter
from scgpt_infer.bench.figures import Scale, figures
from scgpt_infer.bench.lengths import OwnCells, checked_lengths, own_cells, save_tokens
from scgpt_infer.bench.machine import describe
from scgpt_infer.bench.peak import best_of
from scgpt_infer.bench.reading import Order, Reading
from scgpt_infer.bench.result import FORMAT, BenchResult, BundleFacts, Combination, Settings
from scgpt_infer.bench.work import Work, work_of
from scgpt_infer.models import resolve
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.choosing import Asked, candidates
from scgpt_runtime.decode import decode
from scgpt_runtime.errors import ProviderError, ScgptInferError
from scgpt_runtime.machine import cores
from scgpt_runtime.providers import ON_GPU

__all__ = ["PRECISIONS", "PROVIDERS", "BenchOptions", "Plan", "measure", "plans"]

PROVIDERS = ("cuda", "openvino", "cpu")
"""Those that are measured unless some are named; ``tensorrt`` would compile for minutes first."""

PRECISIONS = ("fp32", "bf16", "fp16", "int8")

_GPU_SAMPLE = 512

_PEAK_SHARE = 0.2
"""Of the seconds of a measurement, for each shape of a peak: there are three, and three precisions as a rule."""


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to measure, and how long.

    Attributes
    ----------
    providers, precisions
        None: all that this machine and bundle can run. What is named and cannot run is in the result with its reason:
        each combination if both are named, else a provider or precision for which nothing runs.
    lengths
        In tokens; None: see `scgpt_infer.bench.lengths.checked_lengths`.
    rounds, seconds
        Rounds, and seconds of each measurement.
    seed
        Of random cells and of the sample.
    threads, batch_tokens
        As for an embedding.
    cells, sample
        A file of the user's cells, and how many of them to measure with.
    price
        Of the machine an hour.
    """

    providers: tuple[str, ...] | None = None
    precisions: tuple[str, ...] | None = None
    lengths: tuple[int, ...] | None = None
    rounds: int = 3
    seconds: float = 2.0
    seed: int = 0
    threads: int | None = None
    batch_tokens: int | None = None
    cells: Path | None = None
    sample: int = 64
    price: float | None = None


@dataclass(slots=True)
class Plan:
    """A combination on its way: what was found of it so far, or why it stopped."""

    provider: str
    precision: str
    is_auto: bool
    error: str | None
    readings: list[Reading] = field(default_factory=list)

    @property
    def on_gpu(self) -> bool:
        """Whether it computes on a GPU."""
        return self.provider in ON_GPU


def measure(
    model: str | Path,
    options: BenchOptions = BenchOptions(),
    say: Callable[[str], None] = lambda line: None,
    command: str = "",
) -> BenchResult:
    """Measure a bundle on this machine.

    Parameters
    ----------
    model
        See `scgpt_infer.models.resolve`.
    options
        What to measure.
    say
        Told of each step.
    command
        The command line, for the record.

    Raises
    ------
    ScgptInferError
        The model, the cells or an option cannot be used. A combination that cannot run raises nothing.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    bundle = resolve(model, say=say)
    lengths = checked_lengths(options.lengths, bundle.manifest.tokenizer)
    planned = plans(bundle, options, _auto(bundle, options))
    own = _own_cells(bundle, options, any(plan.on_gpu for plan in planned), say)
    with tempfile.TemporaryDirectory(prefix="scgpt-infer-bench-") as folder:
        path = None if own is None else str(Path(folder) / "sample.npz")
        if own is not None and path is not None:
            save_tokens(own.sample, Path(path))
        found = _rounds(planned, bundle, options, lengths, path, say)
    ran = [(plan.on_gpu, plan.precision) for plan in planned if plan.readings]
    peaks = {key: peak for key in ran if (peak := best_of(*key, found))}
    work = work_of(bundle.manifest.args)
    sizes = () if own is None else tuple(int(size) for size in np.diff(own.sample.offsets))
    scales = {
        on_gpu: Scale(work, sizes, {name: peak for (on, name), peak in peaks.items() if on is on_gpu}, options.price)
        for on_gpu in (False, True)
    }
    return BenchResult(
        format=FORMAT,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        load=load,
        machine=describe(),
        bundle=_bundle_facts(bundle, work),
        settings=Settings(
            options.rounds, options.seconds, options.seed, _threads(options), options.batch_tokens, options.price
        ),
        energy=find_meter()[1],
        peaks=tuple(peaks.values()),
        cells=None if own is None else own.facts,
        combinations=tuple(_combination(plan, scales[plan.on_gpu]) for plan in planned),
    )


def plans(bundle: Bundle, options: BenchOptions, auto: tuple[str, str] | None) -> list[Plan]:
    """The combinations to measure, that of ``auto`` first.

    Parameters
    ----------
    bundle
        Tells which graphs there are.
    options
        What was asked for.
    auto
        Provider and precision that ``auto`` takes here.
    """
    pairs = list(product(options.providers or PROVIDERS, options.precisions or PRECISIONS))
    obstacles = {pair: _obstacle(bundle, *pair, options.threads) for pair in pairs}
    runs = {word for pair, obstacle in obstacles.items() if obstacle is None for word in pair}
    named = {*(options.providers or ()), *(options.precisions or ())}
    both = options.providers is not None and options.precisions is not None
    told = [pair for pair in pairs if obstacles[pair] is None or both or named & set(pair) - runs]
    made = [Plan(*pair, is_auto=pair == auto, error=obstacles[pair]) for pair in told]
    return sorted(made, key=lambda plan: not plan.is_auto)


def _obstacle(bundle: Bundle, provider: str, precision: str, threads: int | None) -> str | None:
    try:
        candidates(bundle.manifest, Asked(provider, precision, threads=threads))
    except ScgptInferError as error:
        return str(error)
    return None


def _auto(bundle: Bundle, options: BenchOptions) -> tuple[str, str] | None:
    try:
        found = ask({"task": "choose", "bundle": str(bundle.path), "threads": options.threads})
    except ProviderError:  # whatever it is, the combinations say so one by one
        return None
    return found["provider"], found["precision"]


def _own_cells(bundle: Bundle, options: BenchOptions, on_gpu: bool, say: Callable[[str], None]) -> OwnCells | None:
    if options.cells is None:
        return None
    say(f"tokenising {options.cells.name}")
    # Few cells would leave cores idle at the end, and a GPU with a batch or two.
    n_sample = max(options.sample, 4 * _threads(options), _GPU_SAMPLE if on_gpu else 0)
    return own_cells(bundle, options.cells, n_sample, options.seed)


def _rounds(
    planned: list[Plan],
    bundle: Bundle,
    options: BenchOptions,
    lengths: tuple[int, ...],
    sample: str | None,
    say: Callable[[str], None],
) -> dict[tuple[str, str], float]:
    """Take all readings; the best products of each provider and precision are returned."""
    peaks: dict[tuple[str, str], float] = {}
    for number in range(options.rounds):
        told = f"round {number + 1} of {options.rounds}"
        for plan in (plan for plan in planned if plan.error is None):
            say(f"{told}: {plan.provider} {plan.precision}")
            order = Order(
                bundle=str(bundle.path),
                provider=plan.provider,
                precision=plan.precision,
                threads=options.threads,
                batch_tokens=options.batch_tokens,
                lengths=lengths,
                seconds=options.seconds,
                seed=options.seed,
                sample=sample,
                prove=number == 0,
                began=time.monotonic(),
            )
            _take(plan, asdict(order))
        say(f"{told}: matrix products")
        for key, rate in _products(planned, options).items():
            peaks[key] = max(rate, peaks.get(key, 0.0))
    return peaks


def _take(plan: Plan, order: dict[str, Any]) -> None:
    try:
        plan.readings.append(decode(Reading, ask({"task": "read", **order}), "the answer of a measurement"))
    except ProviderError as error:
        plan.error = str(error)


def _products(planned: list[Plan], options: BenchOptions) -> dict[tuple[str, str], float]:
    """(provider, precision) to the best rate of this round."""
    running = [plan for plan in planned if plan.error is None]
    wanted = sorted({"fp32", *(plan.precision for plan in running)})
    found: dict[tuple[str, str], float] = {}
    for provider in sorted({"cuda" if plan.on_gpu else plan.provider for plan in running}):
        order = {"task": "peak", "provider": provider, "precisions": wanted, "threads": _threads(options)}
        try:
            rates = ask({**order, "seconds": _PEAK_SHARE * options.seconds})
        except ProviderError:  # no share of the peak then; the model's own figures stand
            continue
        found |= {(provider, precision): rate for precision, rate in rates.items()}
    return found


def _combination(plan: Plan, scale: Scale) -> Combination:
    if plan.error is not None:
        return Combination(plan.provider, plan.precision, plan.is_auto, plan.error)
    return figures(plan.provider, plan.precision, plan.is_auto, plan.readings, scale)


def _bundle_facts(bundle: Bundle, work: Work | None) -> BundleFacts:
    manifest = bundle.manifest
    layers = manifest.args.get("nlayers")
    return BundleFacts(
        name=manifest.name,
        weights=manifest.weights,
        layers=layers if isinstance(layers, int) else None,
        width=manifest.dim,
        max_length=manifest.tokenizer.max_length,
        operations_per_token=None if work is None else work.per_token,
        operations_per_pair=None if work is None else work.per_pair,
    )


def _threads(options: BenchOptions) -> int:
    return options.threads or cores().usable
