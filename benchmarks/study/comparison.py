"""The comparison itself: warm up, run the sides in turn for some rounds, then ask how like fp32 each answer was.

In: a `Plan`. Out: a `Record`. How a side runs is not known here.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.tokens import read
from benchmarks.study import machine
from benchmarks.study.figures import likeness, spread
from benchmarks.study.kept import Kept
from benchmarks.study.launch import ALLOCATOR, Outcome, launch, output_of, run_module
from benchmarks.study.plan import LONGEST, Plan, Say, places_of
from benchmarks.study.record import Entry, LongCells, Record, flop_a_cell
from benchmarks.study.sides import Places, Side

__all__ = ["Comparison"]

Vectors = NDArray[np.float32]
OFFERED = "original"
"""The side whose draws our sides are given, to be compared answer by answer."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A plan with all that it needs in place."""

    plan: Plan
    places: Places
    kept: Kept
    say: Say

    @classmethod
    def prepare(cls, plan: Plan, say: Say) -> "Comparison":
        """Make what is missing."""
        return cls(plan, places_of(plan, say), Kept(plan.work / "runs", plan.resume), say)

    def run(self) -> Record:
        """Measure everything."""
        record = Record(
            machine.describe(),
            self._settings(),
            {},
            [Entry(side.name, side.label, side.ours) for side in self.plan.sides],
        )
        able = self._warm_up(record)
        for number in range(self.plan.rounds):
            self._peak(record, number)
            for side in able:
                self._once(side, record, number)
        for side in able:
            for number in self.kept.beyond(side, self.plan.cells, self.plan.rounds):
                self._once(side, record, number)
        self._likeness(record, able)
        self._long(record, [side for side in able if side.ours])
        return record

    def _settings(self) -> dict[str, str]:
        plan = self.plan
        lengths = read(plan.cells, self.places.checkpoint)[1].lengths
        weights = "the weights given" if plan.checkpoint else "random weights of the public whole-human size"
        return {
            "title": "scgpt-infer side by side",
            "cells": f"{plan.n} cells of {plan.data.name} (seed {plan.seed}), {weights}",
            "lengths": f"Tokens a cell: mean {lengths.mean():.0f}, median {np.median(lengths):.0f}, "
            f"longest {lengths.max()}",
            "rounds": f"Rounds: {plan.rounds}, the sides in turn, each in a process of its own after a warm-up",
            "n_rounds": str(plan.rounds),
            "allocator": " ".join(f"{name}={value}" for name, value in ALLOCATOR.items()),
            "long": f"{plan.long} cells of {LONGEST} tokens (sums of real cells), first answer to last",
        }

    def _warm_up(self, record: Record) -> list[Side]:
        """Run each side on a few cells, which fills the caches that outlive a process; gives those that can run."""
        able = []
        for side, entry in zip(self.plan.sides, record.entries, strict=True):
            outcome = self._outcome(side, self.plan.warm, 0)
            entry.facts, entry.reason = outcome.facts, outcome.reason
            if outcome.run is None:
                self.say(f"{side.name} cannot run here: {outcome.reason}")
            else:
                able.append(side)
        return able

    def _outcome(self, side: Side, cells: Path, number: int) -> Outcome:
        return self.kept.outcome(side, cells, number, lambda: launch(side, self.places, cells, self.plan.lock))

    def _peak(self, record: Record, number: int) -> None:
        for name, found in self.kept.peak(number, lambda: run_module("gemm", [], self.plan.lock)).items():
            record.peak[name] = max(found, record.peak.get(name, 0.0))

    def _once(self, side: Side, record: Record, number: int) -> None:
        entry = next(entry for entry in record.entries if entry.name == side.name)
        outcome = self._outcome(side, self.plan.cells, number)
        if outcome.run is None:
            raise SystemExit(f"{side.name} failed in round {number + 1}: {outcome.reason}")
        if outcome.run.n_cells != self.plan.n:
            raise SystemExit(f"{side.name} answered {outcome.run.n_cells} cells, expected {self.plan.n}.")
        entry.runs.append(outcome.run)
        entry.facts = outcome.facts
        told = outcome.run
        self.say(
            f"round {number + 1}: {side.name}: {told.whole_seconds:.1f} s, start {told.start_seconds:.1f} s, "
            f"steady {told.steady_rate:.2f} cells/s"
        )

    # How like fp32 ----------------------------------------------------------------------------------------------

    def _likeness(self, record: Record, able: list[Side]) -> None:
        """Compare the last round's answers with fp32 on the same tokens."""
        ours = self._reference(self.plan.cells)
        for side in able:
            entry = next(entry for entry in record.entries if entry.name == side.name)
            output = output_of(side, self.places, self.plan.cells)
            expected = self._reference(output.with_suffix(".npz")) if side.draws else ours
            entry.likeness = likeness(_embedding(output), expected)
            self.say(f"{side.name}: cosine to fp32 at least {entry.likeness.worst:.7f}")
        offered = next((side for side in able if side.name == OFFERED), None)
        if offered is not None:
            self._parity(record, [side for side in able if side.ours], offered)

    def _reference(self, source: Path) -> Vectors:
        output = self.places.work / f"reference.{source.stem}.npy"
        done = output.exists() and output.stat().st_mtime > source.stat().st_mtime
        if not (self.plan.resume and done):
            run_module("reference", [self.places.original, self.places.checkpoint, source, output], self.plan.lock)
        vectors: Vectors = np.load(output)
        return vectors

    def _parity(self, record: Record, ours: list[Side], offered: Side) -> None:
        """Give our sides the original's own draws, and compare with what it answered."""
        output = output_of(offered, self.places, self.plan.cells)
        expected = _embedding(output)
        for side in ours:
            entry = next(entry for entry in record.entries if entry.name == side.name)
            provider, precision = side.options(self.places)[3::2]
            vectors = self.places.work / f"injected.{side.name}.npy"
            tokens = output.with_suffix(".npz")
            run_module("injected", [self.places.bundle, tokens, provider, precision, vectors], self.plan.lock)
            entry.parity = likeness(np.load(vectors), expected)
            self.say(
                f"{side.name} against the original, same draws: largest difference {entry.parity.largest:.1e}, "
                f"largest 1 - cosine {1 - entry.parity.worst:.1e}"
            )

    # The share of the machine -----------------------------------------------------------------------------------

    def _long(self, record: Record, ours: list[Side]) -> None:
        if not self.plan.long_cells.exists():
            return
        args = json.loads((self.places.checkpoint / "args.json").read_text(encoding="utf-8"))
        flop = flop_a_cell(args, LONGEST)
        for side in ours:
            rates = []
            for number in range(self.plan.rounds):
                outcome = self._outcome(side, self.plan.long_cells, number)
                if outcome.run is None:
                    raise SystemExit(f"{side.name} failed on long cells: {outcome.reason}")
                rates.append(outcome.run.model_rate)
            rate = spread(rates)
            precision = "fp32" if "fp32" in outcome.facts["precision"] else "bf16"
            tflops = rate.median * flop / 1e12
            found = LongCells(side.name, side.label, precision, rate, tflops, tflops / record.peak[precision])
            record.long.append(found)
            self.say(f"{side.name} at {LONGEST} tokens: {tflops:.3f} TFLOP/s, {100 * found.share:.0f} % of {precision}")


def _embedding(path: Path) -> Vectors:
    from anndata import read_h5ad

    vectors: Vectors = np.asarray(read_h5ad(path).obsm["X_scGPT"], np.float32)
    return vectors
