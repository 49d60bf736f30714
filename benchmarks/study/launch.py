"""Start a side as a process of its own and time it: the same environment, allocator and files for all.

In: a `Side` and the cells. Out: a `Run`, or the reason why there is none. It knows nothing of rounds or tables.
"""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.study.figures import Run
from benchmarks.study.sides import Places, Side

__all__ = ["ALLOCATOR", "Outcome", "launch", "locked", "run_module"]

ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}
"""glibc keeps memory instead of giving it back after each tensor: page faults can take half of PyTorch's time."""

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a side's process.

    Attributes
    ----------
    run
        Its figures; None where it failed.
    facts
        What the side says of itself.
    reason
        Why there are no figures.
    """

    run: Run | None
    facts: dict[str, str]
    reason: str = ""


def launch(side: Side, places: Places, cells: Path, lock: Path | None = None) -> Outcome:
    """Embed a file with a side; its output lies at `output_of`."""
    folder = places.work / "sides"
    folder.mkdir(parents=True, exist_ok=True)
    output, report, log = output_of(side, places, cells), folder / f"{side.name}.json", folder / f"{side.name}.log"
    for stale in (output, report):
        stale.unlink(missing_ok=True)
    options = ["--checkpoint", places.checkpoint, "--cells", cells, "--output", output, "--report", report]
    if side.draws:
        options += ["--tokens", output.with_suffix(".npz")]
    with locked(lock), log.open("w", encoding="utf-8") as told:
        started = time.monotonic()
        command = _command(side.module, [*options, "--started", repr(started), *side.options(places)])
        about = environment(side.own_allocator)
        process = subprocess.Popen(command, cwd=ROOT, env=about, stdout=told, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0 or not report.exists():
        return Outcome(None, {}, _last_line(log))
    marks = json.loads(report.read_text(encoding="utf-8"))
    answers = tuple((moment, cells) for moment, cells in marks["answers"])
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)  # kilobytes on Linux
    return Outcome(Run(seconds, sum(marks["apart"].values()), answers, peak), marks["facts"])


def output_of(side: Side, places: Places, cells: Path) -> Path:
    """Where a side leaves a file's embeddings."""
    return places.work / "sides" / f"{side.name}.{cells.stem}.h5ad"


def run_module(module: str, options: list[object], lock: Path | None = None) -> str:
    """Run another module of ``benchmarks.peers`` that is not timed; gives what it prints.

    Raises
    ------
    SystemExit
        When it fails, with what it said.
    """
    with locked(lock):
        done = subprocess.run(
            _command(module, options), cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise SystemExit(f"{module} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def environment(own_allocator: bool = False) -> dict[str, str]:
    """The environment of a side: the caller's, with the allocator's settings or without any."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    return plain if own_allocator else plain | ALLOCATOR


@contextmanager
def locked(path: Path | None) -> Iterator[None]:
    """Hold a lock file while something runs, where others measure on the same machine."""
    if path is None:
        yield
        return
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _command(module: str, options: list[object]) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.peers.{module}", *map(str, options)]


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it ended without a word"
