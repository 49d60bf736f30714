"""What a reference of a million cells costs, and how many of the nearest cells are found: exact, HNSW, IVF-PQ.

    python -m benchmarks.reference [--cells 1000000] [--queries 10000] [--kinds exact,hnsw,ivfpq] [--folder FOLDER]

Vectors are made from a seed, like embeddings of cells: each has a part that all share and one that its type shares
(500 types of Zipf-distributed size, whose centres span 40 dimensions), and varies along 24 axes of its type's own,
axis i with a spread of 0.3 / sqrt(i), plus a little noise in all 512 dimensions. That gives neighbours an intrinsic
dimension of 13 at 100,000 cells; embeddings of the demo model have 7 to 10. Queries are drawn the same way and are
not indexed.

Each kind is built by one process and searched by another, in blocks of 1,024 queries as annotation does it, three
times, of which the median is told. Memory is what each held at most: ``anonymous`` its own, ``resident`` with the pages
of the memory-mapped vectors. ``lost`` are queries that find less than half of their neighbours. A folder that is named
is kept: what lies in it is not made again, so that a long run can be done in parts.
"""

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.study.machine import describe
from scgpt_infer.reference import LabelledVectors, Origin, ReferenceIndex, build
from scgpt_infer.reference.votes import ranked

DIM, TYPES, AXES, CENTRES = 512, 500, 24, 40
K = 10
ROUNDS = 3
BLOCK = 1024
CHUNK = 65_536


def make(path: Path, n: int, seed: int) -> None:
    """Write vectors and types of cells; the same types whatever the seed, which draws the cells."""
    types = np.random.default_rng(0)
    common = types.normal(size=DIM)
    common /= np.linalg.norm(common)
    centres = types.normal(size=(TYPES, CENTRES)) @ types.normal(size=(CENTRES, DIM))
    centres *= 0.8 / np.linalg.norm(centres, axis=1, keepdims=True)
    axes = (types.normal(size=(TYPES, AXES, DIM)) / np.sqrt(DIM)).astype(np.float32)
    spread = (0.3 / np.sqrt(np.arange(1, AXES + 1))).astype(np.float32)
    share = 1 / np.arange(1, TYPES + 1)
    cells = np.random.default_rng(seed)
    which = cells.choice(TYPES, n, p=share / share.sum())
    vectors = np.lib.format.open_memmap(path, "w+", np.float32, (n, DIM))
    for start in range(0, n, CHUNK):
        of = which[start : start + CHUNK]
        block = (common + centres[of]).astype(np.float32)
        block += cells.normal(size=block.shape).astype(np.float32) * np.float32(0.05 / np.sqrt(DIM))
        along = cells.normal(size=(len(of), AXES)).astype(np.float32) * spread
        for one in np.unique(of):
            block[of == one] += along[of == one] @ axes[one]
        vectors[start : start + CHUNK] = block / np.linalg.norm(block, axis=1, keepdims=True)
    vectors.flush()
    np.save(path.with_suffix(".types.npy"), which.astype(np.int32))


@contextmanager
def measured(told: dict[str, Any]) -> Iterator[None]:
    """Add seconds and peak memory of a block to ``told``."""
    stop, peak = threading.Event(), [0]

    def watch() -> None:
        while not stop.wait(0.1):
            text = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
            peak.append(sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Anonymous:")))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    started = time.perf_counter()
    yield
    told["seconds"] = time.perf_counter() - started
    stop.set()
    thread.join()
    told["anonymous_gib"] = max(peak) / 2**20
    told["resident_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def build_one(folder: Path, kind: str) -> dict[str, Any]:
    """Build an index, with the seconds of each step."""
    vectors = np.load(folder / "cells.npy", mmap_mode="r")
    labels = np.char.mod("type %03d", np.load(folder / "cells.types.npy"))
    names = range(len(labels))
    cells = LabelledVectors(vectors, labels, [f"cell-{i}" for i in names], "type", Origin("made", "none", "fp32"))
    told: dict[str, Any] = {}
    steps: list[tuple[str, float]] = []
    with measured(told):
        manifest = build(folder / kind, cells, kind, lambda line: steps.append((line.split()[0], time.perf_counter())))
    ends = [*(at for _, at in steps[1:]), time.perf_counter()]
    told["steps"] = {}
    for (step, at), end in zip(steps, ends, strict=True):
        told["steps"][step] = told["steps"].get(step, 0.0) + end - at
    told["bytes"] = {record.path: record.size for record in manifest.files}
    told["options"] = None if manifest.faiss is None else asdict(manifest.faiss)
    told["recall_told"] = None if manifest.recall is None else manifest.recall.share
    return told


def search_one(folder: Path, kind: str) -> dict[str, Any]:
    """Search an index for the queries; keep rows and labels, and compare with the exact ones where there are any."""
    queries = np.load(folder / "queries.npy")
    started = time.perf_counter()
    index = ReferenceIndex.open(folder / kind, folder / "cache")
    told: dict[str, Any] = {"open_seconds": time.perf_counter() - started}
    rows = np.empty((len(queries), K), np.int64)
    labels = np.empty(len(queries), np.int32)
    rounds = []
    with measured(told):
        for _ in range(ROUNDS):
            started = time.perf_counter()
            for start in range(0, len(queries), BLOCK):
                some = slice(start, start + BLOCK)
                found = index.search(queries[some], K)
                rows[some] = found.rows
                labels[some] = ranked(index.labels_of(found.rows), found.distances, 1)[0][:, 0]
            rounds.append((time.perf_counter() - started) / len(queries) * 1000)
    told["rounds_ms_a_query"], told["ms_a_query"] = rounds, statistics.median(rounds)
    if kind == "exact":
        np.savez(folder / "exact.npz", rows=rows, labels=labels)
    if (folder / "exact.npz").exists():
        exact = np.load(folder / "exact.npz")
        shares = (exact["rows"][:, :, None] == rows[:, None, :]).any(axis=2).mean(axis=1)
        told["recall_at_10"], told["lost"] = float(shares.mean()), float((shares < 0.5).mean())
        told["same_label"] = float((exact["labels"] == labels).mean())
    return told


def child(step: str, folder: Path, kind: str) -> dict[str, Any]:
    """One step in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.reference", "--folder", str(folder), "--step", step, "--kinds", kind]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def all_kinds(folder: Path, kinds: list[str], cells: int, queries: int) -> dict[str, Any]:
    """Figures of each kind; those that lie in the folder are taken."""
    if not (folder / "queries.types.npy").exists():
        make(folder / "cells.npy", cells, 1)
        make(folder / "queries.npy", queries, 2)
    found: dict[str, Any] = {kind: {} for kind in kinds}
    for kind, step in itertools.product(kinds, ("build", "search")):
        path = folder / f"{kind}.{step}.json"
        if not path.exists():
            path.write_text(json.dumps(child(step, folder, kind)), encoding="utf-8")
        found[kind][step] = json.loads(path.read_text(encoding="utf-8"))
    return found


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        f"{result['cells']:,} cells and {result['queries']:,} queries, {DIM} wide, {result['machine']['cores']} cores",
        "",
        "| kind | build | its memory | disk beside vectors | a query | its memory | recall@10 | lost | same label |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for kind, told in result["kinds"].items():
        built, found = told["build"], told["search"]
        beside = built["bytes"].get("index.faiss", 0)
        lines.append(
            f"| {kind} | {built['seconds']:,.0f} s | {built['anonymous_gib']:.2f} GiB | {beside / 1e6:,.0f} MB | "
            f"{found['ms_a_query']:.2f} ms | {found['anonymous_gib']:.2f} GiB | {found['recall_at_10']:.2%} | "
            f"{found['lost']:.2%} | {found['same_label']:.2%} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Measure, print, write."""
    given = _parser().parse_args(arguments)
    if given.step:
        found = {"build": build_one, "search": search_one}[given.step](given.folder, given.kinds)
        print(json.dumps(found))
        return 0
    with tempfile.TemporaryDirectory() if given.folder is None else nullcontext(given.folder) as name:
        kinds = all_kinds(Path(name), given.kinds.split(","), given.cells, given.queries)
    machine = describe() | {"faiss-cpu": version("faiss-cpu")}
    result = {"machine": machine, "cells": given.cells, "queries": given.queries, "k": K, "kinds": kinds}
    print(table(result))
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        given.json.with_suffix(".md").write_text(table(result), encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--kinds", default="exact,hnsw,ivfpq", help="separated by commas; exact first")
    parser.add_argument("--folder", type=Path, help="where to keep vectors and indexes meanwhile")
    parser.add_argument("--json", type=Path, help="where to write all figures; a table goes beside it")
    parser.add_argument("--step", choices=("build", "search"), help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
