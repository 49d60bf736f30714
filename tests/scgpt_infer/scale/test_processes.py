"""Processes of this machine share a job: the same bytes as of one, whatever happens to them."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from scgpt_infer.api import annotate_file
from scgpt_infer.demo import CELLS
from scgpt_infer.model import Model, cells_of
from scgpt_infer.options import EmbedOptions
from scgpt_infer.work import WorkOptions
from scgpt_runtime.errors import OptionError, ProviderError

TWO = WorkOptions(workers=2)
PLAIN = EmbedOptions(provider="cpu", precision="fp32", max_length=100)


def test_two_processes_give_the_bytes_of_one(place, pids, slowly):
    done: list[int] = []
    hold = slowly(2)

    def progress(cells: int, total: int) -> None:
        done.append(cells)
        hold(cells, total)

    summary = place.embed("two", TWO, progress)
    assert place.bytes("two") == place.bytes("alone")
    assert place.parts_hash("two") == place.parts_hash("alone")
    assert len(pids()) == 2
    assert summary.n_cells == summary.n_embedded + 1 == done[-1]
    assert "2 workers" in summary.why


def test_all_devices_of_a_processor_are_its_memory_nodes(place, pids):
    place.embed("all", options=replace(place.options, device="all"))
    assert place.bytes("all") == place.bytes("alone")
    assert 1 <= len(pids()) <= max(1, len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))))


def test_a_worker_that_is_killed_costs_nothing_but_time(place, pids, slowly, caplog):
    place.embed("killed", TWO, slowly(2, lambda: os.kill(pids()[0], signal.SIGKILL)))
    assert place.bytes("killed") == place.bytes("alone")
    assert place.parts_hash("killed") == place.parts_hash("alone")
    assert "was ended by SIGKILL" in caplog.text


def test_an_error_of_a_worker_is_that_of_one_process(place):
    asked = replace(place.options, precision="int8")
    for work in (WorkOptions(), TWO):
        with pytest.raises(ProviderError, match="has no int8 graph for embed"):
            place.embed("no", work, options=asked)
    assert not list(place.folder.glob("no*"))


def test_one_device_of_a_processor_is_no_gpu(place):
    with pytest.raises(OptionError, match="no GPU can be used"):
        place.embed("no", TWO, options=replace(place.options, provider="auto", device="1"))


def command(place, *words: str) -> list[str]:
    told = [sys.executable, "-m", "scgpt_infer", "embed", str(place.cells), "-m", str(place.model)]
    told += ["-o", str(place.folder / "out.npy"), "--provider", "cpu", "--precision", "fp32", "--batch-tokens", "24"]
    return [*told, "--workers", "2", *words]


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_command_that_is_ended_leaves_no_worker_and_goes_on_from_there(place, number, code):
    with subprocess.Popen(command(place), stderr=subprocess.PIPE, text=True) as process:
        place.wait_for_a_mark(process)
        workers = children(process.pid)
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    assert process.returncode == code, told
    assert "Traceback" not in told
    assert len(workers) == 2
    end = time.monotonic() + 10
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < end, "a worker outlives the command"
        time.sleep(0.05)
    again = subprocess.run(command(place, "--json"), capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(again.stdout)["n_kept"] > 0
    assert place.bytes("out") == place.bytes("alone")


def test_types_are_told_by_workers_as_by_one_process(tmp_path):
    told = []
    for name, work in (("alone", WorkOptions()), ("two", TWO)):
        found = annotate_file(CELLS, tmp_path / f"{name}.csv", "demo", PLAIN, work=work)
        told.append((found.counts, (tmp_path / f"{name}.csv").read_bytes()))
    assert told[0] == told[1]


def test_a_job_that_cannot_be_shared_says_so(toy_h5ad, toy_model, tmp_path):
    options = EmbedOptions(provider="cpu", precision="fp32")
    with (
        cells_of(toy_h5ad, options) as source,
        Model.open(toy_model, options) as model,
        pytest.raises(OptionError, match="embed and annotate"),
    ):
        model.job(source).into_file(tmp_path / "x.npy", work=TWO)
