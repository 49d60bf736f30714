"""Stage ``sweep``: how fast a batch is by length, tokens in it, dialect, precision, with and without CUDA graphs.

found: rows [{provider, precision, dialect, recorded, length, budget, cells, batches, tflops, spread}]: cells a second
from tokens in the host's memory to vectors there, two sessions at a time, every cell of one length. ``tflops`` are
those of the median, at 37.75 million x L + 24,576 x L^2 a cell of full size: all that the model as published computes.

The most telling combinations come first; what there is no time for is not in the rows.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from benchmarks.gpu_visit.bundle import bundle_of
from benchmarks.gpu_visit.lengths import one_length
from benchmarks.gpu_visit.ours import LANES, Way, opened, packed_for, vectors_of, ways
from benchmarks.gpu_visit.part import Ask, Part
from benchmarks.study.figures import spread
from benchmarks.study.record import flop_a_cell
from scgpt_runtime.answering import GraphRunner
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import AnyBatch
from scgpt_runtime.errors import DeviceLostError

__all__ = ["run", "series"]

LENGTHS = (1200, 512, 256, 1024)
BUDGETS = (16384, 65536, 32768, 131072, 8192, 4096)
FEW = (16384, 65536)

ROUND_TOKENS = 2**18
"""Tokens of a round at least: several batches for each session."""

ROUNDS = 7

Grid = list[tuple[int, int]]


def run(ask: Ask, part: Part) -> None:
    """All series, each with one open graph."""
    bundle = Bundle.open(bundle_of(ask))
    made = _Cells(bundle, ask.seed)
    for way, grid in series(ways(bundle, ask), ask.rehearsal):
        left = [(length, budget) for length, budget in grid if not _known(part, way, length, budget)]
        if not left or ask.left < 3 or part.has("failed", **way.fields):
            continue
        try:
            with opened(bundle, way) as runner:
                for length, budget in left:
                    if ask.left > 3:
                        _measure(ask, part, made, way, runner, length, budget)
        except DeviceLostError as error:
            part.add("failed", way.fields | {"error": str(error)})
            part.restart()
        except Exception as error:  # one way that cannot run must not cost the others
            part.add("failed", way.fields | {"error": f"{type(error).__name__}: {error}"})
            part.say(f"{way.name}: {type(error).__name__}: {str(error).splitlines()[0][:200]}")


def series(found: list[Way], rehearsal: bool = False) -> Iterator[tuple[Way, Grid]]:
    """Ways with the lengths and budgets to try, the most telling first."""
    if rehearsal:
        yield from ((way, [(256, 4096), (1200, 4096)]) for way in found)
        return
    whole = [(length, budget) for length in LENGTHS for budget in BUDGETS]
    some = [(length, budget) for length in LENGTHS for budget in FEW]
    quick = [way for way in found if way.precision == "fp16" and way.dialect != "portable"]
    yield from ((way, some) for way in quick)
    yield from ((replace(way, recorded=False), [(1200, 16384), (256, 16384), (1200, 65536)]) for way in quick)
    yield from ((way, whole) for way in quick)
    yield from ((way, some) for way in found if way not in quick)


def _known(part: Part, way: Way, length: int, budget: int) -> bool:
    return part.has("rows", **way.fields, length=length, budget=budget)


class _Cells:
    """Cells of one length for a bundle."""

    def __init__(self, bundle: Bundle, seed: int) -> None:
        self.bundle, self._seed = bundle, seed
        self._n_tokens = len(bundle.vocabulary())

    def packed(self, way: Way, count: int, length: int, budget: int) -> list[AnyBatch]:
        """So many cells as batches."""
        settings = self.bundle.manifest.tokenizer
        return packed_for(self.bundle, way, one_length(count, length, self._n_tokens, settings, self._seed), budget)


def _measure(ask: Ask, part: Part, cells: _Cells, way: Way, runner: GraphRunner, length: int, budget: int) -> None:
    each = max(1, budget // length)
    count = each * max(2 * LANES, -(-ask.pick(ROUND_TOKENS, 1) // (each * length)))
    packed = cells.packed(way, count, length, budget)
    for _ in range(2):  # shapes are made ready, and recorded
        vectors_of(runner, packed, count)
    rates = []
    for _ in range(ask.pick(ROUNDS, 2)):
        began = time.perf_counter()
        vectors_of(runner, packed, count)
        rates.append(count / (time.perf_counter() - began))
    found = spread(rates)
    flop = flop_a_cell(cells.bundle.manifest.args, length)
    row: dict[str, Any] = way.fields | {"length": length, "budget": budget, "cells": count, "batches": len(packed)}
    part.add("rows", row | {"tflops": found.median * flop / 1e12, "spread": asdict(found)})
    part.say(f"{way.name}, {length} tokens, {budget:,} a batch: {found.median:.4g} cells/s")
