"""The files of the benchmark of memory are files of cells, and what it promises is judged."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.granted.files import KINDS, write
from benchmarks.memory import Run, lines, misses
from scgpt_infer.readers import open_cells

GENES = [f"G{number}" for number in range(2500)]
RUN = Run(granted=2_000_000_000, peak=1_000_000_000, seconds=1.0, code=0, vectors="a", told="")
RUNS = {
    "too little": replace(RUN, granted=1_000_000, code=2, vectors="", told="Grant at least --memory 500MB."),
    "least": replace(RUN, granted=1_100_000_000),
    "granted": RUN,
    "no limit": replace(RUN, granted=None, peak=3_000_000_000),
}


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_what_they_are_called(kind: str, tmp_path: Path):
    write(kind, tmp_path / "cells.h5ad", 600, GENES, values=30_000)
    with open_cells(tmp_path / "cells.h5ad") as source:
        assert (source.n_cells, source.n_genes, source.values) == (600, 2500, "integer")
        (block,) = source.blocks([range(600)])
    share = len(block.data) / (600 * 2500)
    assert share == pytest.approx({"dense": 1.0, "gzip": 0.1, "csc": 0.02}[kind], rel=0.05)
    assert np.diff(block.indptr).min() > 0


def test_runs_that_keep_to_what_was_granted_are_no_miss():
    assert misses(RUNS) == []
    assert len(lines("dense", RUNS)) == len(RUNS)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("least", {"peak": 1_200_000_000}, "least held 1.2 GB of 1.1 GB"),
        ("granted", {"vectors": "b"}, "vectors differ"),
        ("granted", {"code": 2}, "granted ended with 2"),
        ("too little", {"code": 0}, "too little ended with 0"),
    ],
)
def test_what_is_not_as_promised_is_told(name: str, change: dict[str, object], told: str):
    assert any(told in line for line in misses({**RUNS, name: replace(RUNS[name], **change)}))
