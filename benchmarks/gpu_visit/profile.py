"""Stage ``profile``: the kernels of one steady batch of 1,200-token cells, way by way.

found: traces [{way, recorded, cells, tokens, kernels: the longest [{name, kind, calls, seconds, share}], busy, idle,
gaps {count, median, seconds}}], counters [{way, kernels [{name, calls, seconds, share, bytes_read, bytes_written}]} or
{way, error}].

A trace is of one batch with one session, CUDA graphs on and off. Counters are Nsight Compute's, which runs each kernel
several times, so their times are those of kernels alone. All kernels go to ``profile.csv`` beside the results.
"""

import csv
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.gpu_visit import ncu, trace
from benchmarks.gpu_visit.bundle import bundle_of
from benchmarks.gpu_visit.ours import Way, opened, ways
from benchmarks.gpu_visit.part import Ask, Part
from benchmarks.gpu_visit.steady import LENGTH, batch_of
from scgpt_runtime.bundle import Bundle

__all__ = ["run"]

TOP = 10
REPEATS = 3


def run(ask: Ask, part: Part) -> None:
    """Traces of all fp16 ways, then counters of the first ones while time is left."""
    bundle = Bundle.open(bundle_of(ask))
    found = [way for way in ways(bundle, ask) if way.precision == ask.pick("fp16", "fp32")]
    rows: list[dict[str, Any]] = []
    trace.traced(ask, lambda: None)  # a CUDA graph that was made before anyone listened may hide its kernels
    for way in found:
        for one in (way, replace(way, recorded=False)) if way.recorded else (way,):
            if ask.left > 10:
                rows += _trace(ask, part, bundle, one)
    for way in found:
        if ask.left > ask.pick(20, 2):
            rows += _count(ask, part, way)
    _write(ask.output / f"gpu.{'rehearsal.' if ask.rehearsal else ''}profile.csv", rows)


def _trace(ask: Ask, part: Part, bundle: Bundle, way: Way) -> list[dict[str, Any]]:
    batch = batch_of(ask, bundle, way)
    try:
        with opened(bundle, way, lanes=1) as runner:
            for _ in range(REPEATS):
                runner.run(batch)
            activities = trace.traced(ask, lambda: runner.run(batch))
    except Exception as error:  # one way that cannot run must not cost the others
        part.add("traces", {"way": way.name, "error": f"{type(error).__name__}: {error}"})
        return []
    kernels, waits = trace.by_kernel(activities), trace.gaps(activities)
    told: dict[str, Any] = {"way": way.name, "cells": len(batch.cells), "tokens": batch.n_tokens, "length": LENGTH}
    told |= {"kernels": kernels[:TOP], "busy": sum(row["seconds"] for row in kernels), "idle": trace.idle(activities)}
    told["gaps"] = {"count": len(waits), "median": statistics.median(waits or [0.0]), "seconds": sum(waits)}
    part.add("traces", told)
    part.say(f"{way.name}: {len(activities)} activities, {told['busy'] * 1e3:.3f} ms")
    return [{"source": "trace", "way": way.name} | row for row in kernels]


def _count(ask: Ask, part: Part, way: Way) -> list[dict[str, Any]]:
    """Bytes of each kernel by Nsight Compute, in a process of its own."""
    tool = shutil.which("ncu")
    if ask.rehearsal or tool is None:
        why = "not in a rehearsal" if ask.rehearsal else "ncu is not installed"
        part.add("counters", {"way": way.name, "error": why})
        return []
    question = ask.cache / "stages" / "profile.ask.json"
    looked = [sys.executable, "-m", "benchmarks.gpu_visit.steady", str(question), way.precision, way.dialect]
    options = ["--csv", "--metrics", ",".join(ncu.METRICS), "--profile-from-start", "off", "--clock-control", "none"]
    try:
        command = [tool, *options, "--target-processes", "all", "--print-units", "base", *looked]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=max(1.0, ask.left - 5))
    except subprocess.TimeoutExpired:
        part.add("counters", {"way": way.name, "error": "ncu took more time than was left"})
        return []
    try:
        kernels = ncu.by_kernel(done.stdout)
    except (KeyError, ValueError) as error:
        part.add("counters", {"way": way.name, "error": f"ncu's table was not understood: {error!r}"})
        return []
    if not kernels:
        part.add("counters", {"way": way.name, "error": (done.stdout + done.stderr)[-1500:]})
        part.say(f"{way.name}: ncu gave no kernel")
        return []
    part.add("counters", {"way": way.name, "kernels": kernels[:TOP]})
    part.say(f"{way.name}: {len(kernels)} kernels with bytes")
    return [{"source": "ncu", "way": way.name} | row for row in kernels]


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    names = ("source", "way", "name", "kind", "calls", "seconds", "share", "bytes_read", "bytes_written")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)
