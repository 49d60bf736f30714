"""Millions of cells through everything but the model: memory, time and bytes, and what follows for more devices.

    python -m benchmarks.scale --bundle PATH --data CELLS.h5ad --json benchmarks/results/scale.json
    python -m benchmarks.scale --table --json benchmarks/results/scale.json [--into docs/scale.md]

A clock stands in the place of the model; everything else is what ``scgpt-infer embed`` does: read, tokenise, pack, keep
parts with their ledger, merge. Each run is a process of its own. Cells are generated from a seed with pbmc3k's numbers
of genes, or read from CELLS.h5ad (raw counts), repeated to --once cells, stored in three ways and read round after
round. With --json, runs of an earlier series that were not asked for stay. --table measures nothing: it prints what was
measured, and what follows for more cells and devices, or puts it into a page. Exits with 3 when a run misses a goal.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.at_scale.assumed import devices
from benchmarks.at_scale.plan import GROUPS, Asked, Case, planned
from benchmarks.at_scale.tables import measured_table, rates_of, scale_table, stages_table
from benchmarks.study.machine import describe

GOAL = 20_000.0
"""Cells a second of everything but the model, on two cores."""

FLAT = 1.1
"""Most that peak memory may grow, from the least cells to the most."""

ONCE = 102_400

BEGIN, END = "<!-- tables: python -m benchmarks.scale --table -->", "<!-- end of the tables -->"
"""Where the tables stand in a page."""


def main(arguments: list[str]) -> int:
    """Measure and print, or print what was measured."""
    given = _parser().parse_args(arguments)
    record: dict[str, Any] = {"machine": {}, "input_bytes": {}, "runs": {}}
    if given.json is not None and given.json.exists():
        record = json.loads(given.json.read_text(encoding="utf-8"))
    if given.table:
        told = tables(record, given.against)
        if given.into is None:
            print(told)
        else:
            given.into.write_text(page(given.into.read_text(encoding="utf-8"), told), encoding="utf-8")
        return 0
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        stored = _files(given, Path(folder)) if {*given.groups} - {"sizes", "formats"} else {}
        asked = Asked(
            given.bundle, folder, tuple(given.cells), given.many, given.few, {k: str(v) for k, v in stored.items()}
        )
        record["machine"] = describe()
        record["input_bytes"] |= {way: _size(path) / given.once for way, path in stored.items()}
        for case in planned(given.groups, asked):
            load = os.getloadavg()[0]
            record["runs"][case.name] = {"group": case.group, "load": load, **ask(case)}
            print(measured_table({case.name: record["runs"][case.name]}).splitlines()[-1], flush=True)
            if given.json is not None:
                given.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    missed = misses(record["runs"])
    print("\n".join(missed))
    return 3 if missed else 0


def ask(case: Case) -> dict[str, Any]:
    """Have a run done in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.at_scale.one"]
    done = subprocess.run(words, input=json.dumps(asdict(case.order)), stdout=subprocess.PIPE, check=True, text=True)
    order = {name: value for name, value in asdict(case.order).items() if name not in ("bundle", "folder", "cells")}
    return {"order": order, "found": json.loads(done.stdout.splitlines()[-1])}


def misses(runs: dict[str, dict[str, Any]]) -> list[str]:
    """What falls short of a goal, in words."""
    told = []
    for name, run in runs.items():
        rate = run["order"]["n_cells"] / run["found"]["seconds"]
        if run["group"] in ("sizes", "stored") and run["order"]["n_cells"] >= 100_000 and rate < GOAL:
            told.append(f"{name}: {rate:,.0f} cells/s; the goal is {GOAL:,.0f}.")
    peaks = [run["found"]["peak"] for run in runs.values() if run["group"] == "sizes"]
    if peaks and max(peaks) > FLAT * peaks[0]:
        told.append(f"Peak memory grows from {peaks[0]:,} to {max(peaks):,} bytes; the goal is a factor of {FLAT}.")
    return told


def tables(record: dict[str, Any], against: Path) -> str:
    """What was measured, and what follows."""
    wide = {name: run for name, run in record["runs"].items() if name.endswith("wide vectors")}
    packed = next(run for name, run in wide.items() if "gzip" in name)
    kinds, rates = devices(against), rates_of(packed, record["input_bytes"]["gzip"])
    on = "{date}: {processor}, {cores} cores, {memory}, Python {python}".format(**record["machine"])
    loads = [run["load"] for run in record["runs"].values()]
    return "\n\n".join(
        [
            f"Measured on {on}. Processes that wanted a core before a run began, as the system tells it (mean of a "
            f"minute, runs of this series before it included): {min(loads):.1f} to {max(loads):.1f}.",
            measured_table(record["runs"]),
            "Each stage by itself, and how many devices it could serve. Stages overlap, and share the two cores.",
            stages_table(wide, kinds),
            "**What follows.** Nothing below was measured: it is arithmetic on the rates above and on what is assumed.",
            scale_table(kinds, rates),
        ]
    )


def page(text: str, told: str) -> str:
    """The page with the tables in their place."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{told}\n{END}{after}"


def _files(given: argparse.Namespace, folder: Path) -> dict[str, Path]:
    from benchmarks.at_scale.stored import STORED, repeated, written

    if given.data is None:
        raise SystemExit("These groups read files. Name an .h5ad of raw counts with --data, or take --groups sizes.")
    cells = repeated(given.data, given.once)
    return {way: written(cells, way, folder) for way in STORED}


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="demo", help="demo, or the path of a bundle: its vocabulary and settings")
    parser.add_argument("--data", type=Path, metavar="CELLS.h5ad", help="raw counts for the files")
    parser.add_argument("--once", type=int, default=ONCE, help="cells of a file; a multiple of 1,024")
    parser.add_argument("--groups", type=_groups, default=tuple(GROUPS), help=f"some of {','.join(GROUPS)}")
    parser.add_argument("--cells", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--many", type=int, default=1_000_000, help="cells of other runs in which no device takes time")
    parser.add_argument(
        "--few", type=int, default=20_000, help="cells for the demo model; for a clock five times as many"
    )
    parser.add_argument("--folder", type=Path, help="where files and outputs go meanwhile; 6 GB for the whole series")
    parser.add_argument("--json", type=Path, help="where all runs are kept")
    parser.add_argument("--table", action="store_true", help="measure nothing, print tables of --json")
    parser.add_argument("--into", type=Path, help="with --table: the page that has a place for them")
    parser.add_argument("--against", type=Path, default=Path(__file__).parent / "results" / "side_by_side.json")
    return parser


def _groups(words: str) -> tuple[str, ...]:
    groups = tuple(words.split(","))
    if not {*groups} <= {*GROUPS}:
        raise argparse.ArgumentTypeError(f"{words} names a group that is not there: {', '.join(GROUPS)}")
    return groups


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
