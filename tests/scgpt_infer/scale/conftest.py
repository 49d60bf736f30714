"""Many small cells, and what one process makes of them."""

import itertools
import json
import logging
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from scgpt_infer.api import embed_file
from scgpt_infer.options import EmbedOptions
from scgpt_infer.run import Progress
from scgpt_infer.summary import Summary
from scgpt_infer.work import WorkOptions

ALONE = WorkOptions()
N_RANGES = 20
N_CELLS = N_RANGES * 1024 - 100
EMPTY_CELL = 5000
OPTIONS = EmbedOptions(provider="cpu", precision="fp32", batch_tokens=24)
"""One cell or two at a time, so that there is time to disturb the work."""


@dataclass(frozen=True, slots=True)
class Place:
    """Cells, a model, and a folder for outputs."""

    cells: Path
    model: Path
    folder: Path
    cache: Path
    options: EmbedOptions = OPTIONS

    def embed(self, name: str, work: WorkOptions = ALONE, progress=None, options=OPTIONS) -> Summary:
        """Embed the cells into ``name``.npy."""
        output = self.folder / f"{name}.npy"
        return embed_file(self.cells, output, self.model, options, progress, work=work, cache_dir=self.cache)

    def wait_for_a_mark(self, process: subprocess.Popen[str]) -> None:
        """Wait until a command that writes ``out.npy`` has marked a part."""
        ledger, end = self.folder / "out.npy.parts" / "ledger.jsonl", time.monotonic() + 60
        while not (ledger.exists() and ledger.stat().st_size):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.005)

    def parts_hash(self, name: str) -> str:
        """One sha256 of all that the ledger has marked."""
        return json.loads((self.folder / f"{name}.npy.json").read_text())["parts_sha256"]

    def bytes(self, name: str) -> dict[str, bytes]:
        """What a job has left, but for the record of how it was run."""
        files = {path.name.removeprefix(name): path for path in self.folder.glob(f"{name}.*")}
        return {suffix: path.read_bytes() for suffix, path in files.items() if not suffix.endswith(".json")}


@pytest.fixture(scope="session")
def many_cells(tmp_path_factory) -> Path:
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.3, (N_CELLS, 70)).astype(np.float32)
    counts[EMPTY_CELL] = 0
    cells = ad.AnnData(sparse.csr_matrix(counts))
    cells.var_names = [f"G{i}" for i in range(70)]
    cells.obs_names = [f"cell-{i}" for i in range(N_CELLS)]
    path = tmp_path_factory.mktemp("many") / "cells.h5ad"
    cells.write_h5ad(path)
    return path


@pytest.fixture(scope="session")
def alone(many_cells, toy_model, tmp_path_factory) -> Path:
    """A folder with what one process makes of the cells."""
    folder = tmp_path_factory.mktemp("alone")
    Place(many_cells, toy_model, folder, tmp_path_factory.mktemp("cache")).embed("alone")
    return folder


@pytest.fixture
def place(many_cells, toy_model, tmp_path, own_cache, alone) -> Place:
    """A place where ``alone`` lies already."""
    shutil.copytree(alone, tmp_path / "out")
    return Place(many_cells, toy_model, tmp_path / "out", own_cache)


@pytest.fixture
def pids(caplog):
    """Numbers of the workers' processes, in the order in which they came up."""
    caplog.set_level(logging.INFO, logger="scgpt_infer")
    pattern = r"Worker process (\d+) on \S+ takes part"
    return lambda: [int(number) for number in re.findall(pattern, caplog.text)]


@pytest.fixture
def slowly(pids):
    """Makes a `progress` that holds the work up until so many workers have come up, then calls another one once."""

    def until(workers: int, then: Callable[[], None] = lambda: None) -> Progress:
        called: list[bool] = []
        pauses = itertools.count(1)

        def progress(done: int, total: int) -> None:
            if done and len(pids()) < workers:
                time.sleep(min(2.0, 0.2 * next(pauses)))  # the crew has to go on listening: a little at a time
            elif done and not called:
                called.append(True)
                then()

        return progress

    return until
