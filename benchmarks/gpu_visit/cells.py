"""Stage ``cells``: cells to vectors through scgpt_runtime's engine, tokenizer and all, on pbmc3k's lengths.

found: rows [{way, choice, batch_tokens, cells, mean_length, spread, timings {stage: seconds of the last round}, seconds
of the last round, share {stage: of it}}], auto {choice, why, open_seconds, rate}, idle {share of the time in which no
kernel ran and no copy, kernels, seconds} while the best way was traced.

Cells come from memory as blocks, so nothing is read or written here.
"""

import time
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu_visit.bundle import bundle_of
from benchmarks.gpu_visit.lengths import blocks, columns_of, known_genes_of
from benchmarks.gpu_visit.ours import Way, choice_of, opened, ways
from benchmarks.gpu_visit.part import Ask, Part
from benchmarks.gpu_visit.trace import idle, traced
from benchmarks.study.figures import spread
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.runners import graph_for

__all__ = ["run"]

CELLS = 8 * 1024
ROUNDS = 3
BUDGETS = (16384, 65536)

TRACED = 4
"""Blocks of cells under the tracer, which writes a line for each kernel."""


def run(ask: Ask, part: Part) -> None:
    """Each fp16 way through the engine, then what the engine chooses, then the best under a tracer."""
    bundle = Bundle.open(bundle_of(ask))
    settings, n_tokens = bundle.manifest.tokenizer, len(bundle.vocabulary())
    columns = columns_of(known_genes_of(n_tokens, settings), ask.seed)
    cells = blocks(ask.pick(CELLS, 24), len(columns), ask.seed)
    rates: dict[tuple[Way, int], float] = {}
    for way in ways(bundle, ask):
        # Cells of equal length are too few for exact batches.
        if way.precision != ask.pick("fp16", "fp32") or way.dialect == "cuda-exact" or ask.left < 15:
            continue
        try:
            with opened(bundle, way) as runner:
                for budget in ask.pick(BUDGETS if way.recorded else BUDGETS[:1], (4096,)):
                    engine = _engine(bundle, way, runner, budget)
                    rates[way, budget] = _one(ask, part, engine, way, cells, columns)
        except Exception as error:  # one way that cannot run must not cost the others
            part.add("rows", way.fields | {"error": f"{type(error).__name__}: {error}"})
    if ask.left > 10:
        part.put("auto", _auto(ask, bundle, cells, columns))
    if rates and ask.left > 10:
        best = max(rates, key=lambda key: rates[key])
        part.put("idle", _idle(ask, bundle, *best, cells[:TRACED], columns))


def _engine(bundle: Bundle, way: Way, runner: Any, budget: int) -> Engine:
    choice = choice_of(way)
    graph = graph_for(bundle, "embed", choice)
    return Engine(bundle, graph, runner, choice, bundle.manifest.tokenizer, batch_tokens=budget)


def _one(ask: Ask, part: Part, engine: Engine, way: Way, cells: list[CellBlock], columns: NDArray[np.int64]) -> float:
    budget = engine.batch_tokens
    _answered(engine, cells, columns)
    rates: list[float] = []
    for _ in range(ask.pick(ROUNDS, 1)):
        before, began = engine.timings, time.perf_counter()
        n_cells, n_tokens = _answered(engine, cells, columns)
        seconds = time.perf_counter() - began
        rates.append(n_cells / seconds)
    timings = {stage: after - before[stage] for stage, after in engine.timings.items()}
    told = {"choice": engine.choice.name, "batch_tokens": budget, "batch_tokens_at_end": engine.batch_tokens}
    told |= {"cells": n_cells, "mean_length": n_tokens / n_cells, "spread": asdict(spread(rates))}
    told |= {"seconds": seconds, "timings": timings}
    part.add("rows", way.fields | told | {"share": {name: spent / seconds for name, spent in timings.items()}})
    middle = spread(rates).median
    part.say(f"{way.name}, {budget:,} tokens a batch: {middle:.4g} cells/s")
    return middle


def _answered(engine: Engine, cells: list[CellBlock], columns: NDArray[np.int64]) -> tuple[int, int]:
    """Cells and tokens of all results, each of which has to be finite."""
    n_cells = n_tokens = 0
    for result in engine.run(cells, columns):
        for rows in result.outputs.values():
            if not np.isfinite(rows).all():
                raise RuntimeError(f"{np.count_nonzero(~np.isfinite(rows).all(axis=1))} cells have no finite vector")
        n_cells += result.n_cells
        n_tokens += int(result.lengths.sum())
    return n_cells, n_tokens


def _auto(ask: Ask, bundle: Bundle, cells: list[CellBlock], columns: NDArray[np.int64]) -> dict[str, Any]:
    """What a user gets who asks for nothing."""
    began = time.perf_counter()
    try:
        with Engine.open(bundle, EngineOptions(), cache_dir=ask.cache / "remembered") as engine:
            told = {"choice": engine.choice.name, "why": engine.choice.why, "batch_tokens": engine.batch_tokens}
            told |= {"runs": engine.provider, "open_seconds": time.perf_counter() - began}
            if engine.choice.provider != ask.provider and not ask.rehearsal:
                return told | {"error": f"it chose {engine.choice.name}, not the GPU: {engine.choice.why}"}
            _answered(engine, cells[:2], columns)
            began = time.perf_counter()
            n_cells, _ = _answered(engine, cells, columns)
            return told | {"rate": n_cells / (time.perf_counter() - began)}
    except Exception as error:  # that it fails is the finding
        return {"error": f"{type(error).__name__}: {error}"}


def _idle(
    ask: Ask, bundle: Bundle, way: Way, budget: int, cells: list[CellBlock], columns: NDArray[np.int64]
) -> dict[str, Any]:
    traced(ask, lambda: None)  # a CUDA graph that was made before anyone listened may hide its kernels
    with opened(bundle, way) as runner:
        engine = _engine(bundle, way, runner, budget)
        _answered(engine, cells, columns)
        activities = traced(ask, lambda: _answered(engine, cells, columns))
    return {"way": way.name, "batch_tokens": budget} | idle(activities)
