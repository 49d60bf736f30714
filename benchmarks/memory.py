"""Does a job keep to the memory that it is granted? Files of gigabytes, watched from outside.

    python -m benchmarks.memory [--model demo] [--memory 2GB] [--folder FOLDER] [--json OUT.json]

Three files are written, one after the other: 50,000 cells x 20,000 genes of float32, dense (4 GB, no zeros) and dense
in compressed chunks, and 200 million values stored by genes (CSC). Each is embedded by ``scgpt-infer embed`` four
times: with 1 MB, which must be refused with the least that works; with that least; with --memory; and without a limit.
Every 50 ms the PSS of the command and of all that it started is read. Cells are cut to 64 tokens, so that reading is
what takes the time; with --memory once more to the model's own length, 2,048 cells of it. Vectors must be equal in all
runs of one length. Exits with 3 where more was held than granted, or a vector differs.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.granted.files import KINDS, write
from benchmarks.study.machine import describe
from scgpt_infer import models
from scgpt_infer.memory import held_bytes
from scgpt_infer.sizes import bytes_of, size

EVERY_S = 0.05
SHORT = ("--max-length", "64")
FEW = ("--limit", "2048")


@dataclass(frozen=True, slots=True)
class Run:
    """One command, as it was seen from outside.

    Attributes
    ----------
    granted
        Bytes; None: no limit.
    peak
        Most PSS that was seen.
    seconds
        It took.
    code
        Its exit code.
    vectors
        SHA-256 of the vectors; empty where there are none.
    told
        What it said at the end.
    """

    granted: int | None
    peak: int
    seconds: float
    code: int
    vectors: str
    told: str


def main(arguments: list[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--memory", type=bytes_of, default=bytes_of("2GB"))
    parser.add_argument("--cells", type=int, default=50_000)
    parser.add_argument("--genes", type=int, default=20_000)
    parser.add_argument("--values", type=int, default=200_000_000, help="Of the file stored by genes.")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--folder", type=Path, help="Where files lie while they are used.")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    record: dict[str, Any] = {"machine": describe(), "model": given.model, "files": {}}
    if given.json is not None and given.json.exists():
        record["files"] = json.loads(given.json.read_text(encoding="utf-8"))["files"]
    missed: list[str] = []
    for kind in given.kinds:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            path = Path(folder) / "cells.h5ad"
            write(kind, path, given.cells, genes_of(given.model, given.genes), given.values)
            runs = of_file(path, given.model, given.memory)
            missed += [f"{kind}: {line}" for line in misses(runs)]
            record["files"][kind] = {
                "bytes": path.stat().st_size,
                "cells": given.cells,
                "genes": given.genes,
                "runs": {name: asdict(run) for name, run in runs.items()},
            }
        print("\n".join(lines(kind, runs)), flush=True)
        if given.json is not None:
            given.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print("\n".join(missed))
    return 3 if missed else 0


def genes_of(model: str, n_genes: int) -> list[str]:
    """Names of genes that the model knows, and others up to the number."""
    known = [name for name in models.resolve(model, None).vocabulary().tokens if not name.startswith("<")]
    return [*known, *(f"OTHER-{number}" for number in range(n_genes))][:n_genes]


def of_file(path: Path, model: str, memory: int) -> dict[str, Run]:
    """All runs of a file."""
    refused = run(path, model, bytes_of("1MB"), *SHORT)
    found = re.search(r"at least --memory (\w+)", refused.told)
    if found is None:
        raise SystemExit(f"1 MB was not refused with the least that works: {refused.told}")
    return {
        "too little": refused,
        "least": run(path, model, bytes_of(found[1]), *SHORT),
        "granted": run(path, model, memory, *SHORT),
        "no limit": run(path, model, None, *SHORT),
        "whole cells": run(path, model, memory, *FEW),
    }


def run(path: Path, model: str, memory: int | None, *words: str) -> Run:
    """Embed a file, and watch."""
    output = path.with_name("vectors.npy")
    output.unlink(missing_ok=True)
    command = [sys.executable, "-m", "scgpt_infer", "embed", str(path), "-m", model, "-o", str(output), "--no-resume"]
    granted = () if memory is None else ("--memory", str(memory))
    peak, started = 0, time.perf_counter()
    with subprocess.Popen([*command, "--quiet", *granted, *words], stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, held_bytes(process.pid))
            time.sleep(EVERY_S)
        told = "" if process.stderr is None else process.stderr.read()
    vectors = hashlib.sha256(output.read_bytes()).hexdigest() if output.exists() else ""
    return Run(memory, peak, time.perf_counter() - started, process.returncode, vectors, told.strip()[-600:])


def misses(runs: dict[str, Run]) -> list[str]:
    """What is not as it was promised, in words."""
    told = [
        f"{name} ended with {run.code}: {run.told}"
        for name, run in runs.items()
        if run.code != 2 * (name == "too little")
    ]
    told += [
        f"{name} held {size(run.peak)} of {size(run.granted)}"
        for name, run in runs.items()
        if name != "too little" and run.granted is not None and run.peak > run.granted
    ]
    if len({runs[name].vectors for name in ("least", "granted", "no limit")}) != 1:
        told.append("vectors differ")
    return told


def lines(kind: str, runs: dict[str, Run]) -> list[str]:
    """A table for people."""
    return [
        f"{kind:6} {name:12} granted {'-' if run.granted is None else size(run.granted):>9}  peak {size(run.peak):>9}  "
        f"{run.seconds:6.1f} s  exit {run.code}"
        for name, run in runs.items()
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
