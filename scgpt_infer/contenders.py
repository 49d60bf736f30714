"""The engines that are compared, and how fast each is: all open at once, timed in turns.

In: a bundle, names of providers and precisions. Out: open engines, one of fp32 first, and cells a second of each. It
judges no vector.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.choosing import Asked, candidates
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.errors import OptionError, ProviderError
from scgpt_runtime.manifest import PRECISIONS, Manifest
from scgpt_runtime.providers import ON_GPU, PROVIDERS, gpu_expected, obstacle

__all__ = ["opened", "some_rows", "speeds_in_turns"]

_DEFAULT = ("cpu", "openvino", "cuda")
"""Providers that are compared unless some are named, where they run: ``tensorrt`` would compile for minutes first."""

_TURNS = 5
_TURN_SECONDS = 1.5
_FEWEST = 8


def opened(
    bundle: Bundle, providers: Sequence[str], precisions: Sequence[str], threads: int | None, stack: ExitStack
) -> tuple[list[Engine], list[str]]:
    """Open all that was asked for.

    Parameters
    ----------
    bundle
        An opened bundle.
    providers, precisions
        Empty: all that the bundle and this machine have.
    threads
        Cores in all; None: those that this process may use.
    stack
        Closes the engines.

    Returns
    -------
    Engines, one of fp32 first whether it was asked for or not, and what could not be had.

    Raises
    ------
    OptionError
        A provider or precision that cannot be compared.
    ProviderError
        No fp32 runs here, or nothing that was asked for does.
    """
    notes: list[str] = []
    pairs = _pairs(bundle.manifest, providers or _expected(), precisions, notes)
    engines = []
    for provider, precision in pairs:
        chosen = EngineOptions(provider=provider, precision=precision, threads=threads)
        try:
            engines.append(stack.enter_context(Engine.open(bundle, chosen)))
        except ProviderError as error:
            notes.append(f"{provider} {precision}: {error}")
    if not engines or engines[0].choice.precision != "fp32":
        raise ProviderError(
            f"Bundle {bundle.manifest.name} has nothing in fp32 that runs here, which the others would be held "
            f"against. {' '.join(notes)} Export it again with fp32 in --precision."
        )
    return engines, notes


def _expected() -> tuple[str, ...]:
    """What is compared where nothing is named: a GPU that nobody expects here is no note."""
    return tuple(name for name in _DEFAULT if name not in ON_GPU or gpu_expected())


def _pairs(
    manifest: Manifest, providers: Sequence[str], precisions: Sequence[str], notes: list[str]
) -> list[tuple[str, str]]:
    """Providers and precisions to run, one fp32 first whether it was asked for or not."""
    for kind, names, allowed in (("precision", precisions, PRECISIONS), ("provider", providers, PROVIDERS)):
        unknown = [name for name in names if name not in allowed]
        if unknown:
            raise OptionError(f"There is no {kind} {', '.join(unknown)} to compare; expected {', '.join(allowed)}.")
    pairs = []
    for provider in providers:
        problem = obstacle(provider)
        if problem:
            notes.append(f"{provider}: {problem}")
            continue
        for precision in PRECISIONS:
            asked = precision in precisions
            try:
                candidates(manifest, Asked(provider, precision))
            except ProviderError as error:
                notes += [f"{provider} {precision}: {error}"] if asked else []
                continue
            if asked or precision == "fp32" or not precisions:
                pairs.append((provider, precision))
    references = [pair for pair in pairs if pair[1] == "fp32"][:1]
    wanted = [pair for pair in pairs if pair not in references]
    if precisions and "fp32" not in precisions:
        wanted = [pair for pair in wanted if pair[1] != "fp32"]
    return references + wanted


def some_rows(n_cells: int, seconds: float) -> NDArray[np.int64]:
    """Rows, spread evenly, that an engine answers in a turn's time if all cells took it so many seconds."""
    n = int(n_cells * min(1.0, _TURN_SECONDS / max(seconds, 1e-9)))
    return np.unique(np.linspace(0, n_cells - 1, max(n, min(n_cells, _FEWEST))).astype(np.int64))


def speeds_in_turns(engines: Sequence[Engine], blocks: Sequence[CellBlock], columns: NDArray[np.int64]) -> list[float]:
    """Cells a second of each engine, from values in memory to vectors.

    The median of several turns: what disturbs the machine meanwhile disturbs all alike.
    """
    n_cells = sum(block.n_cells for block in blocks)
    rates: list[list[float]] = [[] for _ in engines]
    for _ in range(_TURNS):
        for engine, found in zip(engines, rates, strict=True):
            start = time.perf_counter()
            for _ in engine.run(blocks, columns):
                pass
            found.append(n_cells / (time.perf_counter() - start))
    return [float(np.median(found)) for found in rates]
