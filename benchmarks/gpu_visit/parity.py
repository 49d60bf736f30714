"""Stage ``parity``: every way to run the model, held against the golden vectors and against itself, before any timing.

found: ways [{provider, precision, dialect, recorded, one_minus_cosine, relative, limit, ok} or {..., error}],
contract [{precision, dialect, case, difference, limit, ok}].

Cases of the contract: the same batches again; without CUDA graphs; one session instead of two; each cell alone; other
budgets; cells in another order. Where bits have to be equal the limit is 0.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu_visit.bundle import bundle_of
from benchmarks.gpu_visit.ours import Way, opened, packed_for, taken, vectors_of, ways
from benchmarks.gpu_visit.part import Ask, Part
from benchmarks.study.figures import likeness
from scgpt_runtime.answering import GraphRunner
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import TokenBlock
from scgpt_runtime.errors import DeviceLostError
from scgpt_runtime.golden import Golden
from scgpt_runtime.proof import LIMITS, golden_tokens, one_minus_cosine

__all__ = ["difference", "relative", "run"]

BETWEEN_BATCHINGS = {"fp32": 1e-5, "fp16": 1e-4, "bf16": 1e-4}
"""The contract (docs/contract.md): largest difference of an entry of the unit vector in fp32, 1 - cosine otherwise."""

BUDGETS = (2048, 65536)

EQUAL = ("again", "one session", "no CUDA graph")
"""Cases with the same batches, whose bits have to be equal."""

Vectors = NDArray[np.float32]


def run(ask: Ask, part: Part) -> None:
    """All ways; what cannot run is a row with its error."""
    bundle = Bundle.open(bundle_of(ask))
    golden = bundle.golden()
    for way in ways(bundle, ask):
        if part.has("ways", **way.fields):
            continue
        if ask.left < 5:
            part.add("ways", way.fields | {"error": "no time was left"})
            continue
        try:
            _one(bundle, golden, way, part)
        except DeviceLostError as error:
            _failed(part, way, error)
            part.restart()
        except Exception as error:  # one way that cannot run must not cost the others
            _failed(part, way, error)


def _failed(part: Part, way: Way, error: Exception) -> None:
    part.add("ways", way.fields | {"error": f"{type(error).__name__}: {error}"})
    part.say(f"{way.name}: {type(error).__name__}: {str(error).splitlines()[0][:200]}")


def _one(bundle: Bundle, golden: Golden, way: Way, part: Part) -> None:
    tokens = golden_tokens(golden)
    packed = packed_for(bundle, way, tokens)
    with opened(bundle, way) as runner:
        found = vectors_of(runner, packed, golden.n_cells)
        worst = float(one_minus_cosine(found, golden.vectors).max())
        limit = LIMITS[way.precision]
        figures = {"one_minus_cosine": worst, "relative": relative(found, golden.vectors), "limit": limit}
        part.add("ways", way.fields | {"runs": runner.provider} | figures | {"ok": worst <= limit})
        part.say(f"{way.name}: 1 - cosine {worst:.1e} (limit {limit:.0e})")
        cases = _batchings(bundle, way, runner, tokens)
    with opened(bundle, way, lanes=1) as runner:
        cases["one session"] = vectors_of(runner, packed, tokens.n_cells, lanes=1)
    if way.recorded:
        with opened(bundle, replace(way, recorded=False)) as runner:
            cases["no CUDA graph"] = vectors_of(runner, packed, tokens.n_cells)
    for name, vectors in cases.items():
        gap = difference(vectors, found, way.precision)
        bound = 0.0 if name in EQUAL else BETWEEN_BATCHINGS[way.precision]
        row = {"precision": way.precision, "dialect": way.dialect, "case": name}
        part.add("contract", row | {"difference": gap, "limit": bound, "ok": gap <= bound})


def _batchings(bundle: Bundle, way: Way, runner: GraphRunner, tokens: TokenBlock) -> dict[str, Vectors]:
    """The same cells, batched in other ways."""
    n_cells = tokens.n_cells

    def answer(budget: int | None = None) -> Vectors:
        return vectors_of(runner, packed_for(bundle, way, tokens, budget), n_cells)

    cases = {"again": answer(), "each cell alone": answer(1)}
    cases |= {f"at most {budget:,} tokens": answer(budget) for budget in BUDGETS}
    order = np.random.default_rng(1).permutation(n_cells)
    shuffled = vectors_of(runner, packed_for(bundle, way, taken(tokens, order)), n_cells)
    return cases | {"another order of cells": shuffled[np.argsort(order)]}


def difference(found: Vectors, plain: Vectors, precision: str) -> float:
    """How far two answers to the same cells are apart, as the contract counts it; 0 only where they are equal."""
    if precision != "fp32":
        return float(one_minus_cosine(found, plain).max())
    return likeness(found, plain).largest


def relative(found: Vectors, expected: Vectors) -> float:
    """Length of the difference of unit vectors, of the worst cell."""
    return float(np.sqrt(2 * one_minus_cosine(found, expected).max()))
