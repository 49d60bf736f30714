"""The rule held against a measurement: what can run a bundle here is tried for a few seconds, once.

In: a bundle and choices in the rule's order. Out: the same choices, the fastest first, and what was measured.
It happens only where the outcome can be remembered, by processor or GPU, bundle and versions.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from scgpt_runtime.answering import GraphRunner
from scgpt_runtime.batching import BatchPlan, rectangles
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import Batch
from scgpt_runtime.choosing import Asked, layouts
from scgpt_runtime.errors import DeviceError, ScgptInferError
from scgpt_runtime.gpu_trial import cells_per_second
from scgpt_runtime.instances import Instances
from scgpt_runtime.machine import cores, resident
from scgpt_runtime.proof import golden_tokens, hardware
from scgpt_runtime.providers import ProviderChoice, installed
from scgpt_runtime.remembered import Remembered
from scgpt_runtime.runners import open_graph

__all__ = ["Measured", "fastest_first"]

_SECONDS = 0.25
_ROUNDS = 2
_MARGIN = 1.1
"""The rule stands unless another choice is this much faster: shared machines are noisy."""

_MARGIN_OF_ROUTES = 1.03
"""Between the routes of one precision on a GPU the rule's order is an expectation, and little else runs there."""

_RECIPE = 2
"""Raised when choices are measured in another way, so that older outcomes hold no more."""

Opener = Callable[[Bundle, str, ProviderChoice], GraphRunner]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a choice did on this machine.

    Attributes
    ----------
    provider, precision, dialect, instances, threads
        The choice; on GPUs, what runs on one of them.
    cells_per_second
        Golden cells a second: those of median length, best of a few rounds; on a GPU what `gpu_trial` found.
    instance_bytes
        Memory that each instance beyond the first took; None where it was not measured.
    """

    provider: str
    precision: str
    dialect: str
    instances: int
    threads: int
    cells_per_second: float
    instance_bytes: int | None = None


def fastest_first(
    bundle: Bundle,
    ranked: tuple[ProviderChoice, ...],
    asked: Asked,
    task: str,
    cache_dir: Path | None,
    opener: Opener = open_graph,
    say: Callable[[str], None] = _log.info,
) -> tuple[ProviderChoice, ...]:
    """Put the choice that a measurement found fastest before the rule's.

    Parameters
    ----------
    bundle
        An opened bundle; its golden cells are what is run.
    ranked
        Choices in the rule's order.
    asked
        What the user wants; part of what the outcome depends on.
    task
        A task whose graph takes tokens.
    cache_dir
        Where the outcome is remembered; None, or a folder that cannot be written: the rule decides.
    opener
        Opens a graph.
    say
        Told when a measurement begins.

    Returns
    -------
    tuple of ProviderChoice
        The same, in another order or layout, each `why` with its figure.
    """
    tried = _worth_it(ranked, asked)
    if cache_dir is None or not tried:
        return ranked
    remembered = Remembered(cache_dir, "measured", _depends_on(bundle, tried, asked, task))
    found = _read(remembered.recall())
    if not found and remembered.possible():
        say(f"what runs {bundle.manifest.name} fastest on this machine is measured, once")
        failed: list[ProviderChoice] = []
        found = _measure_all(bundle, tried, asked, task, opener, failed)
        if not failed:  # what another program does to the GPU today says nothing of tomorrow
            # Where another process was first, its outcome holds: jobs that start together must not part company.
            found = _read(remembered.keep([asdict(one) for one in found]))
    return _ordered(ranked, found)


def _worth_it(ranked: tuple[ProviderChoice, ...], asked: Asked) -> tuple[ProviderChoice, ...]:
    """The choices among which a measurement can decide. A processor is no rival of a GPU, and TensorRT would build an
    engine of each choice, minutes each.
    """
    on_gpu = tuple(_on_one(choice) for choice in ranked if choice.devices)
    if on_gpu:
        return on_gpu if len(on_gpu) > 1 and on_gpu[0].provider == "cuda" else ()
    ways = len(ranked) > 1 or (asked.instances is None and bool(layouts(ranked[0])))
    return ranked if asked.open and ways else ()


def _on_one(choice: ProviderChoice) -> ProviderChoice:
    """What each of several GPUs does, so that jobs on any number of them find the same outcome."""
    if not choice.devices:
        return choice
    return replace(choice, devices=choice.devices[:1], instances=choice.instances // len(choice.devices))


def _measure_all(
    bundle: Bundle,
    tried: tuple[ProviderChoice, ...],
    asked: Asked,
    task: str,
    opener: Opener,
    failed: list[ProviderChoice],
) -> list[Measured]:
    """Every choice as the rule lays it out, then other layouts of the best; `failed` gets those whose device failed."""
    if tried[0].devices:
        return [one for choice in tried if (one := _measure_on_gpu(bundle, choice, task, opener, failed))]
    cells = _cells(bundle)
    measured = [_measure(bundle, choice, task, cells, opener, weigh=choice is tried[0]) for choice in tried]
    found = [one for one in measured if one is not None]
    if not found or asked.instances is not None:
        return found
    best = _best(found, _MARGIN)
    (chosen,) = [choice for choice in tried if _key(choice) == _key(best)]
    return found + [one for choice in layouts(chosen) if (one := _measure(bundle, choice, task, cells, opener))]


def _measure_on_gpu(
    bundle: Bundle, choice: ProviderChoice, task: str, opener: Opener, failed: list[ProviderChoice]
) -> Measured | None:
    runner = None
    try:
        runner = opener(bundle, task, choice)
        return _measured(choice, cells_per_second(bundle, choice, runner))
    except ScgptInferError as error:
        if isinstance(error, DeviceError):
            failed.append(choice)
        _log.debug("%s was not measured: %s", choice.name, error)
        return None
    finally:
        if runner is not None:
            runner.close()


def _measure(
    bundle: Bundle, choice: ProviderChoice, task: str, cells: tuple[Batch, Batch], opener: Opener, weigh: bool = False
) -> Measured | None:
    median, longest = cells
    try:
        runner = opener(bundle, task, choice)
    except ScgptInferError as error:  # it cannot run: whoever opens it for good will say so
        _log.debug("%s was not measured: %s", choice.name, error)
        return None
    try:
        with Instances[None](runner.run, choice.instances) as instances:
            grown = _growth(runner, instances, longest, choice.instances) if weigh else None
            for _ in instances.answers((None, median) for _ in range(choice.instances)):
                pass  # the first run of each instance makes its buffers
            start = time.perf_counter()
            runner.run(median)
            count = int(np.clip(_SECONDS / max(time.perf_counter() - start, 1e-6), 1, 64)) * choice.instances
            rates = [_rate(instances, median, count) for _ in range(_ROUNDS)]
    except ScgptInferError as error:
        _log.debug("%s was not measured to the end: %s", choice.name, error)
        return None
    finally:
        runner.close()
    return _measured(choice, max(rates), grown)


def _measured(choice: ProviderChoice, rate: float, grown: int | None = None) -> Measured:
    return Measured(choice.provider, choice.precision, choice.dialect, choice.instances, choice.threads, rate, grown)


def _growth(runner: GraphRunner, instances: Instances[None], longest: Batch, count: int) -> int | None:
    """Bytes that each instance takes once the first one has its buffers."""
    if count == 1:
        return None
    runner.run(longest)
    before = resident()
    _rate(instances, longest, count)
    after = resident()
    return None if before is None or after is None else max(0, after - before) // (count - 1)


def _rate(instances: Instances[None], batch: Batch, count: int) -> float:
    start = time.perf_counter()
    for _ in instances.answers((None, batch) for _ in range(count)):
        pass
    return count * len(batch.cells) / (time.perf_counter() - start)


def _cells(bundle: Bundle) -> tuple[Batch, Batch]:
    """The golden cell of median length and the longest one, each alone."""
    tokens = golden_tokens(bundle.golden(), len(bundle.manifest.batches))
    alone = rectangles(tokens, bundle.manifest.tokenizer, BatchPlan("padded", 1))
    return alone[len(alone) // 2], alone[0]


def _best(found: list[Measured], margin: float) -> Measured:
    """The first one, unless another is faster by the margin."""
    rival = max(found, key=lambda one: one.cells_per_second)
    return rival if rival.cells_per_second > margin * found[0].cells_per_second else found[0]


def _best_on_gpu(found: list[Measured]) -> Measured:
    """The fastest route of the first precision, unless another precision is clearly faster."""
    routes = [one for one in found if one.precision == found[0].precision]
    others = [one for one in found if one.precision != found[0].precision]
    return _best([_best(routes, _MARGIN_OF_ROUTES), *others], _MARGIN)


def _ordered(ranked: tuple[ProviderChoice, ...], found: list[Measured]) -> tuple[ProviderChoice, ...]:
    by_key = {_key(_on_one(choice)): choice for choice in ranked}
    first = [one for one in found if _key(one) in by_key]
    if not first:
        return ranked
    on_gpu = bool(by_key[_key(first[0])].devices)
    best = _best_on_gpu(first) if on_gpu else _best(first, _MARGIN)
    chosen = by_key[_key(best)]
    told = ", ".join(f"{_named(one)} {_digits(one.cells_per_second)}" for one in first)
    why = f"{chosen.why}; measured here: {told} cells/s" + (" on one GPU" if on_gpu else "")
    laid = chosen if on_gpu else _best([best, *(one for one in found if one not in first)], _MARGIN)
    if isinstance(laid, Measured) and laid.instance_bytes is not None:
        why += f", a further instance takes {laid.instance_bytes / 2**20:.0f} MiB"
    top = replace(chosen, instances=laid.instances, threads=laid.threads, why=why)
    return (top, *(choice for choice in ranked if choice is not chosen))


def _digits(cells_per_second: float) -> str:
    """Three digits, or all of a whole number that has more."""
    return f"{cells_per_second:,.0f}" if cells_per_second >= 100 else f"{cells_per_second:.3g}"


def _named(one: Measured) -> str:
    return " ".join((one.provider, one.precision, *([one.dialect] if one.provider == "cuda" else [])))


def _key(one: ProviderChoice | Measured) -> tuple[str, str, str, int, int]:
    return one.provider, one.precision, one.dialect, one.instances, one.threads


def _read(found: object) -> list[Measured]:
    """What was remembered; nothing where it cannot be read as such."""
    try:
        read = [Measured(**one) for one in found] if isinstance(found, list) else []
    except TypeError:
        return []
    return read if all(map(_sound, read)) else []


def _sound(one: Measured) -> bool:
    numbers = (one.instances, one.threads)
    return (
        all(isinstance(name, str) for name in (one.provider, one.precision, one.dialect))
        and all(type(number) is int and number >= 1 for number in numbers)
        and type(one.cells_per_second) is float
        and one.cells_per_second > 0
        and (one.instance_bytes is None or type(one.instance_bytes) is int)
    )


def _depends_on(bundle: Bundle, tried: tuple[ProviderChoice, ...], asked: Asked, task: str) -> dict[str, object]:
    devices = tried[0].devices
    # On a GPU neither cores decide, nor which GPUs of a kind and how many: jobs that share the work find one outcome.
    where = {} if devices else {"asked": asdict(asked), "cores": asdict(cores())}
    return {
        "bundle": sorted(record.sha256 for record in bundle.manifest.files),
        "task": task,
        "ranked": [_key(choice) for choice in tried],
        "hardware": hardware(devices),
        "versions": installed(),
        "recipe": _RECIPE,
        **where,
    }
