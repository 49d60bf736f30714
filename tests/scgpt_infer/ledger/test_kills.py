"""A run that is killed, stopped, or loses its disk or its input, and is run again, ends as an undisturbed one does.

Real processes: the command line, the demo model, a file of nine ranges. What is compared is compared byte for byte.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scgpt_infer.demo import CELLS

N_CELLS = 8 * 1024 + 300
N_RANGES = 9
N_GENES = 300
KILLS = 20
BAD = (0, 1500, 8191, N_CELLS - 1)
"""Rows of cells without counts."""


class Place:
    """A folder with cells, and the command that embeds them there."""

    def __init__(self, folder: Path, cells: Path) -> None:
        self.folder, self.cells = folder, cells
        self.output = folder / "x.npy"
        self.parts = folder / "x.npy.parts"
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            process.kill()
            process.communicate()

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "scgpt_infer", "embed", str(self.cells), "--model", "demo"]
        command += ["-o", str(self.output), "--max-length", "24", "--provider", "cpu", "--threads", "1", *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._started.append(process)
        return process

    def run(self, *words: str) -> tuple[int, str]:
        process = self.start(*words)
        _, told = process.communicate(timeout=120)
        return process.returncode, told

    def clear(self) -> None:
        """Remove a whole result."""
        for path in self.folder.iterdir():
            path.unlink()

    def marks(self) -> int:
        """Ranges that are marked."""
        ledger = self.parts / "ledger.jsonl"
        return ledger.read_bytes().count(b"\n") if ledger.exists() else 0

    def wait_for(self, marks: int, process: subprocess.Popen[str]) -> None:
        """Wait until so many ranges are marked, for none until the work begins, or until the process has ended."""
        while (self.marks() < marks or not self.parts.exists()) and process.poll() is None:
            time.sleep(0.002)

    def result(self) -> dict[str, bytes | str]:
        """What must be equal to the last byte. Nothing but it is left."""
        assert not self.parts.exists()
        assert {path.name for path in self.folder.iterdir()} == {
            "x.npy",
            "x.cells.txt",
            "x.npy.json",
            "x.npy.bad.csv",
        }
        record = json.loads((self.folder / "x.npy.json").read_text())
        files = {name: (self.folder / name).read_bytes() for name in ("x.npy", "x.cells.txt", "x.npy.bad.csv")}
        return {**files, "digest of the ledger": record["parts_sha256"]}


@pytest.fixture(autouse=True)
def own_cache():
    """None: every process would look anew which provider is the fastest."""


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> Path:
    rng = np.random.default_rng(0)
    genes = ad.read_h5ad(CELLS, backed="r").var_names[:N_GENES]
    counts = rng.poisson(0.1, (N_CELLS, N_GENES)).astype(np.float32)
    counts[list(BAD)] = 0
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    obs, var = pd.DataFrame(index=[f"cell-{row}" for row in range(N_CELLS)]), pd.DataFrame(index=genes)
    ad.AnnData(sparse.csr_matrix(counts), obs=obs, var=var).write_h5ad(path)
    return path


@pytest.fixture
def place(tmp_path, cells) -> Iterator[Place]:
    with Place(tmp_path, cells) as place:
        yield place


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, cells) -> tuple[dict[str, bytes | str], float]:
    """What one run gives, and the seconds that it takes."""
    began = time.monotonic()
    with Place(tmp_path_factory.mktemp("undisturbed"), cells) as place:
        code, told = place.run()
    assert code == 0, told
    return place.result(), time.monotonic() - began


def test_an_undisturbed_run_lists_its_bad_cells(undisturbed):
    report = undisturbed[0]["x.npy.bad.csv"].decode().splitlines()
    assert report[0] == "row,cell,reason"
    assert [line.split(",")[0] for line in report[1:]] == [str(row) for row in BAD]


def test_killed_at_any_moment_and_run_again_it_ends_the_same(place, undisturbed):
    """Half of the moments are spread over the life of a run, half lie close behind a mark, also the last one."""
    wanted, seconds = undisturbed
    rng = random.Random(7)
    found_at: list[int] = []
    while len(found_at) < KILLS:
        before, process = place.marks(), place.start()
        if len(found_at) % 2:
            place.wait_for(rng.randint(min(before + 1, N_RANGES), N_RANGES), process)
            time.sleep(rng.uniform(0, 0.03))
        else:
            time.sleep(rng.uniform(0, seconds))
        process.kill()
        _, told = process.communicate()
        if place.output.exists() and not place.parts.exists():  # it was quicker
            assert place.result() == wanted
            place.clear()
            continue
        assert process.returncode == -signal.SIGKILL, told
        assert place.marks() >= before or place.output.exists()
        found_at.append(place.marks())
    assert len(set(found_at)) > 3
    code, told = place.run()
    assert code == 0, told
    assert place.result() == wanted


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_request_to_stop_loses_no_range_that_was_in_flight(place, undisturbed, number):
    """Asked when the work begins, at the first mark, in the middle, and at the last one or while the output is made."""
    for after in (0, 1, 4, N_RANGES):
        process = place.start()
        place.wait_for(after, process)
        seen = place.marks()
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
        if process.returncode == 0 and after == N_RANGES:  # it was quicker
            break
        assert process.returncode == 75, told
        assert f"stopped as {number.name} asked" in told
        assert "the same command goes on" in told or not seen
        assert place.marks() >= seen
        assert len(list(place.parts.glob("part-*.npz"))) == place.marks()
        assert not list(place.parts.glob(".*"))
    else:
        code, told = place.run()
        assert code == 0, told
    assert place.result() == undisturbed[0]


def test_a_second_request_ends_at_once_and_keeps_what_is_marked(place, undisturbed):
    process = place.start()
    place.wait_for(2, process)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGUSR1)
    _, told = process.communicate(timeout=60)
    assert process.returncode in (75, 128 + signal.SIGUSR1, 128 + signal.SIGTERM), told
    assert place.marks() >= 2
    assert place.run()[0] == 0
    assert place.result() == undisturbed[0]


def test_ctrl_c_keeps_what_is_marked(place, undisturbed):
    process = place.start()
    place.wait_for(2, process)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in told
    assert place.run()[0] == 0
    assert place.result() == undisturbed[0]


def test_two_live_processes_on_one_output_are_refused(place, undisturbed):
    process = place.start()
    place.wait_for(1, process)
    process.send_signal(signal.SIGSTOP)  # holds the lock, and cannot end before the other has looked
    other = place.start()
    time.sleep(0.7 * undisturbed[1])
    process.send_signal(signal.SIGCONT)
    _, told = other.communicate(timeout=60)
    _, first = process.communicate(timeout=60)
    assert process.returncode == 0, first
    assert other.returncode in (0, 2)
    assert other.returncode == 0 or f"process {process.pid} on" in told
    assert place.result() == undisturbed[0]


def fill(ballast: Path) -> None:
    """Take all room that a disk has left."""
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


@pytest.fixture
def disk_place(tmp_path, cells):
    """A disk of its own, a few megabytes large."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("mounting a disk needs root")
    with Place(folder, cells) as place:
        yield place
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_fills_up_ends_the_run_and_what_was_done_is_gone_on_with(disk_place, undisturbed):
    place, ballast = disk_place, disk_place.folder / "ballast"
    process = place.start()
    place.wait_for(2, process)
    fill(ballast)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 2, told
    assert "the disk is full" in told
    assert "the same command goes on" in told
    ballast.unlink()
    assert place.marks() >= 2
    assert place.run()[0] == 0
    assert place.result() == undisturbed[0]


def test_an_input_that_vanishes_and_comes_back_is_gone_on_with(place, cells, undisturbed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("network disk")
    place.cells = folder / "cells.h5ad"
    whole = cells.read_bytes()
    place.cells.write_bytes(whole)
    state = place.cells.stat()
    process = place.start()
    place.wait_for(1, process)
    os.truncate(place.cells, len(whole) // 4)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 2, told
    assert "the same command goes on" in told
    assert "bug" not in told
    kept = place.marks()
    place.cells.unlink()
    code, told = place.run()
    assert (code, place.marks()) == (2, kept), told
    place.cells.write_bytes(whole)
    os.utime(place.cells, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert place.run()[0] == 0
    assert place.result() == undisturbed[0]


def test_with_workers_the_leader_is_killed_and_nobody_is_left_at_work(place, undisturbed):
    for after in (0, 3):
        process = place.start("--workers", "2")
        place.wait_for(after, process)
        workers = children(process.pid)
        process.kill()
        process.communicate()
        end = time.monotonic() + 10
        while any(map(is_at_work, workers)) and time.monotonic() < end:
            time.sleep(0.05)
        assert not [worker for worker in workers if is_at_work(worker)]
    code, told = place.run("--workers", "2")
    assert code == 0, told
    assert place.result() == undisturbed[0]


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_at_work(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
