"""Can the rest keep up with a GPU? From a file of cells to a written result, with everything but the model.

    python -m benchmarks.feeding CELLS.h5ad [--bundle demo|PATH] [--cells 20000] [--rounds 3] [--json OUT.json]

CELLS.h5ad holds raw counts; it is repeated to --cells cells and stored in two ways. A device that only keeps
time stands for the GPU: once it answers at once, so that what is left is the limit of reading, tokenising, packing and
writing; once it takes for each batch the time that a GPU at our goal would (6,000 cells of 1,200 tokens a second), so
that its idle share shows what it waits for. No GPU is measured here. The cases take turns, round by round, after one
round that is not counted; median, minimum and maximum. Exits with 3 when the rest is slower than the goal.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.at_scale.one import job_of
from benchmarks.at_scale.stored import repeated, written
from benchmarks.clock import Clock, engine_of
from benchmarks.study.machine import describe
from scgpt_infer import models
from scgpt_infer.options import EmbedOptions
from scgpt_infer.readers import open_cells
from scgpt_runtime.bundle import Bundle

GOAL = 6000.0
"""Cells of 1,200 tokens a second."""

STORED = ("uncompressed", "gzip")
ROUTES = ("cuda-packed", "cuda-flash")
OUTPUTS = (".h5ad", ".npy")


def flop(lengths: NDArray[np.int64]) -> float:
    """Operations of cells of so many tokens, as the model is published (12 layers of 512)."""
    return float((37.75e6 * lengths + 24_576.0 * lengths**2).sum())


PACE = GOAL * flop(np.array([1200]))
"""Operations a second at the goal."""


def cost(lengths: NDArray[np.int64]) -> float:
    """Seconds that cells of so many tokens take at the goal."""
    return flop(lengths) / PACE


@dataclass(frozen=True, slots=True)
class Case:
    """A file, a way to lay cells in batches, a format of the result, and whether the device takes time."""

    path: Path
    stored: str
    route: str
    suffix: str
    at_goal: bool

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.stored}, {self.route}, to {self.suffix}, " + (
            "device at the goal" if self.at_goal else "no device"
        )


def measured(case: Case, bundle: Bundle) -> dict[str, float]:
    """Cells a second of one run, and the share of its time in which the device had nothing to do."""
    clock = Clock(bundle.manifest.dim, cost if case.at_goal else None)
    options = EmbedOptions(obs_only=case.suffix == ".h5ad")
    with (
        tempfile.TemporaryDirectory(dir=case.path.parent) as folder,
        engine_of(bundle, clock, case.route) as engine,
    ):
        started = time.perf_counter()
        with open_cells(case.path) as source:
            summary = job_of(source, bundle, engine, options).into_file(Path(folder) / f"out{case.suffix}")
        wall = time.perf_counter() - started
    return {"cells_per_second": summary.n_cells / wall, "idle": 1 - clock.busy / wall}


def stored(given: argparse.Namespace, folder: Path) -> dict[str, Path]:
    """The cells, repeated, in a file for each way to store them."""
    cells = repeated(given.cells, given.number)
    return {way: written(cells, way, folder) for way in STORED}


def table(found: dict[str, list[dict[str, float]]]) -> None:
    """Print a line a case."""
    print(f"{'cells/s':<58}{'median':>9}{'min':>9}{'max':>9}{'device idle':>13}")
    for name, rounds in found.items():
        rates = [one["cells_per_second"] for one in rounds]
        idle = statistics.median(one["idle"] for one in rounds)
        told = "" if name.endswith("no device") else f"{idle:.1%}"
        print(f"{name:<58}{statistics.median(rates):>9,.0f}{min(rates):>9,.0f}{max(rates):>9,.0f}{told:>13}")


def main(arguments: list[str]) -> int:
    """Measure, print, write."""
    given = _parser().parse_args(arguments)
    bundle = models.resolve(given.bundle)
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        cases = [
            Case(path, name, route, suffix, at_goal)
            for name, path in stored(given, Path(folder)).items()
            for route in ROUTES
            for suffix in OUTPUTS
            for at_goal in (False, True)
        ]
        for counted in range(-1, given.rounds):
            for case in cases:
                one = measured(case, bundle)
                if counted >= 0:
                    found.setdefault(case.name, []).append(one)
    table(found)
    if given.json:
        record = {"machine": describe(), "bundle": bundle.manifest.name, "goal": GOAL, "rounds": found}
        given.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    free = [
        statistics.median(one["cells_per_second"] for one in found[case.name]) for case in cases if not case.at_goal
    ]
    return 3 if min(free) < GOAL else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path, metavar="CELLS.h5ad")
    parser.add_argument("--bundle", default="demo", help="demo, or the path of a bundle: its vocabulary and settings")
    parser.add_argument("--cells", dest="number", type=int, default=20_000, help="repeat the file to so many cells")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where to write all rounds")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
