"""How long a user waits: importing the package, ``--help``, and the first embedding of 100 demo cells.

    python benchmarks/start.py [RUNS]

Whole processes, one after the other, after one warm-up of each; median, minimum and maximum in seconds.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scgpt_infer import demo

LIMITS = {"import scgpt_infer": 0.5, "scgpt-infer --help": 0.3, "first 100 demo cells": 5.0}
"""Seconds that each may take on a warm machine."""


def commands(folder: Path) -> dict[str, list[str]]:
    """What is timed, by the names of `LIMITS`."""
    cli = [sys.executable, "-m", "scgpt_infer"]
    output = ["--limit", "100", "--quiet", "-o", str(folder / "x.npy")]
    return {
        "import scgpt_infer": [sys.executable, "-c", "import scgpt_infer"],
        "scgpt-infer --help": [*cli, "--help"],
        "first 100 demo cells": [*cli, "embed", str(demo.CELLS), "--model", "demo", *output],
    }


def seconds(command: list[str]) -> float:
    """Wall time of one run."""
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def main(runs: int) -> int:
    """Print a line a command; 3 when a median is over its limit."""
    late = 0
    for name, limit in LIMITS.items():
        with tempfile.TemporaryDirectory() as folder:
            command = commands(Path(folder))[name]
            seconds(command)
            times = [seconds(command) for _ in range(runs)]
        median = statistics.median(times)
        late += median > limit
        print(f"{name:<22} median {median:.2f} s (min {min(times):.2f}, max {max(times):.2f}), limit {limit} s")
    return 3 if late else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
