"""Several ways to answer the same cells, in turn, round after round: rates, ratios and their spread.

In: contenders and tokens. Out: rows. Each contender first answers golden cells, so that a wrong one is seen, then finds
its best number of tokens in a batch; what follows is timed from tokens in the host's memory to vectors there.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu_visit.ours import taken
from benchmarks.gpu_visit.part import Ask, Part
from benchmarks.study.figures import spread
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import TokenBlock
from scgpt_runtime.errors import DeviceLostError
from scgpt_runtime.proof import golden_tokens, worst_of

__all__ = ["Contender", "Contest", "ratios"]

TOO_FAR = 1e-3
"""1 - cosine to the reference beyond which an answer is wrong, and no time counts."""

WARM = 2
"""Runs before any time counts: the first makes shapes ready, the second records them where that is done."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to answer cells.

    Attributes
    ----------
    name, label
        For rows and for people.
    ours
        Whether it is scgpt-infer.
    pack
        Tokens and a budget to batches in the host's memory; not timed.
    answer
        Batches to (n_cells, dim) vectors in the host's memory, in the order of the cells.
    budgets
        Tokens in a batch to choose from.
    facts
        What a reader should know of it.
    """

    name: str
    label: str
    ours: bool
    pack: Callable[[TokenBlock, int], Any]
    answer: Callable[[Any], Vectors]
    budgets: tuple[int, ...]
    facts: dict[str, Any] = field(default_factory=dict)


class Contest:
    """Contenders on several workloads.

    Parameters
    ----------
    ask, part
        Of the stage.
    bundle
        Its golden cells judge every contender.
    workloads
        Name to tokens.
    """

    def __init__(self, ask: Ask, part: Part, bundle: Bundle, workloads: dict[str, TokenBlock]) -> None:
        self.ask, self.part, self.workloads = ask, part, workloads
        self._golden = bundle.golden()
        self._in: list[Contender] = []
        self._packed: dict[tuple[str, str], Any] = {}

    @property
    def ours(self) -> list[str]:
        """Our contenders that are in."""
        return [contender.name for contender in self._in if contender.ours]

    def enter(self, contender: Contender) -> bool:
        """Judge a contender and find its best budgets; one that fails is a row with its error, and is not in."""
        if self.part.has("lost", name=contender.name):
            return False
        began = time.perf_counter()
        try:
            worst = self._judge(contender)
            budgets = {name: self._best_budget(contender, tokens) for name, tokens in self.workloads.items()}
        except Exception as error:  # a peer that this PyTorch or GPU cannot run is left out, with the reason
            if isinstance(error, DeviceLostError) or "CUDA error" in str(error):
                self._start_anew(contender, error)
            text = f"{type(error).__name__}: {str(error)[:500]}"
            self.part.add("contenders", self._row(contender) | {"error": text})
            self.part.say(f"{contender.label}: {text.splitlines()[0][:200]}")
            return False
        took = round(time.perf_counter() - began, 2)
        row = self._row(contender) | {"one_minus_cosine": worst, "budgets": budgets, "ready_seconds": took}
        if not worst <= TOO_FAR:
            self.part.add("contenders", row | {"error": f"wrong: 1 - cosine {worst:.2g}, at most {TOO_FAR:.0e}"})
            self.part.say(f"{contender.label}: wrong, 1 - cosine {worst:.2g}")
            return False
        self.part.add("contenders", row)
        self.part.say(f"{contender.label}: 1 - cosine {worst:.1e}, ready after {took:.1f} s, tokens {budgets}")
        for name, tokens in self.workloads.items():
            self._packed[contender.name, name] = contender.pack(tokens, budgets[name])
        self._in.append(contender)
        return True

    def _start_anew(self, contender: Contender, error: Exception) -> NoReturn:
        """The device is lost to this process: without this contender, from the beginning."""
        for name in ("contenders", "rates", "ratios"):
            self.part.put(name, [])
        self.part.add("lost", self._row(contender) | {"error": f"{type(error).__name__}: {str(error)[:500]}"})
        self.part.restart()

    def _row(self, contender: Contender) -> dict[str, Any]:
        return {"name": contender.name, "label": contender.label, "ours": contender.ours, "facts": contender.facts}

    def _judge(self, contender: Contender) -> float:
        tokens = golden_tokens(self._golden)
        found = contender.answer(contender.pack(tokens, contender.budgets[0]))
        return worst_of(self._golden, found)

    def _best_budget(self, contender: Contender, tokens: TokenBlock) -> int:
        """The budget that answers a share of the cells fastest."""
        if len(contender.budgets) == 1:
            return contender.budgets[0]
        some = taken(tokens, np.arange(max(1, tokens.n_cells // 4)))
        seconds = {}
        for budget in contender.budgets:
            packed = contender.pack(some, budget)
            for _ in range(WARM):
                contender.answer(packed)
            seconds[budget] = min(self._seconds(contender, packed) for _ in range(2))
        return min(seconds, key=lambda budget: seconds[budget])

    def _seconds(self, contender: Contender, packed: Any) -> float:
        began = time.perf_counter()
        contender.answer(packed)
        return time.perf_counter() - began

    def rounds(self, number: int, among: Sequence[str] = ()) -> None:
        """Time those who are in, or some of them, in turn, each round beginning with another."""
        playing = [contender for contender in self._in if not among or contender.name in among]
        for name, tokens in self.workloads.items():
            seconds: dict[str, list[float]] = {contender.name: [] for contender in playing}
            for contender in playing:
                for _ in range(WARM):
                    contender.answer(self._packed[contender.name, name])
            for turn in range(number):
                if self.ask.left < 3:
                    break
                at = turn % max(1, len(playing))
                for contender in (*playing[at:], *playing[:at]):
                    seconds[contender.name].append(self._seconds(contender, self._packed[contender.name, name]))
            if any(seconds.values()):
                self._write(name, tokens, seconds)

    def _write(self, workload: str, tokens: TokenBlock, seconds: dict[str, list[float]]) -> None:
        rates = {name: [tokens.n_cells / one for one in found] for name, found in seconds.items() if found}
        lengths = np.diff(tokens.offsets)
        about = {"workload": workload, "cells": tokens.n_cells, "mean_length": float(lengths.mean())}
        for contender in self._in:
            if contender.name in rates:
                rate = {"rates": rates[contender.name], "spread": asdict(spread(rates[contender.name]))}
                self.part.add("rates", about | {"name": contender.name, "ours": contender.ours} | rate)
        for row in ratios(rates, self.ours):
            self.part.add("ratios", {"workload": workload} | row)
            middle = row["spread"]["median"]
            self.part.say(f"{workload}: {row['ours']} is {middle:.2f} times {row['peer']}")


def ratios(rates: dict[str, list[float]], ours: Sequence[str]) -> list[dict[str, Any]]:
    """How many times faster our best (by median) is than each peer, round by round.

    Parameters
    ----------
    rates
        Contender to its rate in each round.
    ours
        Those that are scgpt-infer.
    """
    mine = [name for name in ours if name in rates]
    if not mine:
        return []
    best = max(mine, key=lambda name: spread(rates[name]).median)
    found = []
    for name, theirs in rates.items():
        if name not in mine:
            each = [a / b for a, b in zip(rates[best], theirs, strict=False)]
            found.append({"ours": best, "peer": name, "ratios": each, "spread": asdict(spread(each))})
    return found
