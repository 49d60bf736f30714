"""What a comparison is asked to do, and the files that it needs, made where they are missing.

In: a `Plan`. Out: `Places` with a checkpoint, its bundle, the plain export, and the cells. Nothing is timed here.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.study import draw
from benchmarks.study.launch import locked, run_module
from benchmarks.study.sides import Places, Side

__all__ = ["LONGEST", "Plan", "Say", "places_of"]

LONGEST = 1200
"""Tokens of the longest cell that scGPT takes, ``<cls>`` counted."""

WARM_CELLS = 4

CALIBRATION_CELLS = 64

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """A comparison.

    Attributes
    ----------
    data
        ``.h5ad`` of raw counts to draw from.
    n, seed, rounds
        Cells, seed of the draw, times that each side runs.
    long
        Cells of the longest length, for the share of the machine's peak.
    sides
        Who takes part.
    work, original
        See `Places`.
    checkpoint
        Real weights; None: random ones of the public whole-human size, made here.
    bundle
        None: exported here.
    lock
        A file to hold while a side runs.
    resume
        Keep the runs of an earlier call that was interrupted.
    """

    data: Path
    n: int
    seed: int
    rounds: int
    long: int
    sides: tuple[Side, ...]
    work: Path
    original: Path
    checkpoint: Path | None = None
    bundle: Path | None = None
    lock: Path | None = None
    resume: bool = False

    @property
    def cells(self) -> Path:
        """The cells that all sides embed."""
        return self.work / f"cells.{self.n}.seed{self.seed}.h5ad"

    @property
    def warm(self) -> Path:
        """A few cells to warm up with."""
        return self.work / "warm.h5ad"

    @property
    def long_cells(self) -> Path:
        """Cells of the longest length."""
        return self.work / f"long.{self.long}.h5ad"


def places_of(plan: Plan, say: Say) -> Places:
    """Make what is missing."""
    if not (plan.original / "scgpt").is_dir():
        raise SystemExit(
            f"{plan.original} holds no package scgpt. Run benchmarks/setup_original, or name a checkout: --original."
        )
    plan.work.mkdir(parents=True, exist_ok=True)
    checkpoint = plan.checkpoint or _random(plan.work / "checkpoint", say)
    bundle = plan.bundle or _exported(plan, checkpoint, say)
    places = Places(plan.work, plan.original, checkpoint, bundle)
    if any(side.module == "onnx_plain" for side in plan.sides) and not places.plain_onnx.exists():
        say("exporting the original's model as it is")
        run_module("onnx_plain", ["export", plan.original, checkpoint, places.plain_onnx], plan.lock)
    if not (plan.resume and plan.long_cells.exists()):
        draw.draw(plan.data, plan.cells, plan.n, plan.seed)
        draw.draw(plan.data, plan.warm, WARM_CELLS, plan.seed)
        if not draw.draw_long(plan.data, checkpoint / "vocab.json", plan.long_cells, plan.long, LONGEST, plan.seed):
            say(f"no cells of {LONGEST} tokens can be made of {plan.data.name}: the share of the peak is left out")
    return places


def _random(folder: Path, say: Say) -> Path:
    from scgpt_export import random_model

    if not (folder / "best_model.pt").exists():
        say("making a random checkpoint of the public whole-human size")
        random_model.write("whole-human", folder)
    return folder


def _exported(plan: Plan, checkpoint: Path, say: Say) -> Path:
    """The bundle in fp32 and int8, the ranges of int8 from cells of the file that the comparison does not draw."""
    bundle = plan.work / ("real.bundle" if plan.checkpoint else "random.bundle")
    if (bundle / "manifest.json").exists():
        return bundle
    say("exporting the bundle")
    others = plan.work / "calibration.h5ad"
    draw.draw_others(plan.data, others, plan.n, CALIBRATION_CELLS, plan.seed)
    command = [sys.executable, "-m", "scgpt_infer", "export", str(checkpoint), "-o", str(bundle)]
    options = ["--precision", "fp32,int8", "--calibrate", str(others), "--calibrate-cells", str(CALIBRATION_CELLS)]
    with locked(plan.lock):
        done = subprocess.run([*command, *options], check=False)
    if done.returncode not in (0, 3):  # 3: a precision was too far from the reference and is left out
        raise SystemExit(f"The export of {checkpoint} ended with {done.returncode}.")
    return bundle
