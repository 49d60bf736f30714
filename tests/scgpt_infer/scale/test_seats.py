"""Cores are shared out evenly, what is near each other together."""

import os
from pathlib import Path

import pytest

from scgpt_infer.scale.seats import core_groups, on_cores, on_gpus
from scgpt_runtime.machine import CoreReport


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two memory nodes of two cores, each with two hardware threads: core 0 has 0 and 4, and so on."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    for node, cores in enumerate(("0-1,4-5", "2-3,6-7")):
        folder = tmp_path / f"sys/devices/system/node/node{node}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(f"{cores}\n")
    for core in range(8):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{core}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{core % 4},{core % 4 + 4}\n")
    return tmp_path


def test_a_group_for_each_memory_node(machine: Path) -> None:
    assert core_groups(None, machine) == [(0, 1, 4, 5), (2, 3, 6, 7)]


def test_hardware_threads_of_a_core_go_together(machine: Path) -> None:
    assert core_groups(4, machine) == [(0, 4), (1, 5), (2, 6), (3, 7)]
    assert core_groups(2, machine) == [(0, 4, 1, 5), (2, 6, 3, 7)]


def test_more_workers_than_cores_share_them(machine: Path) -> None:
    assert {len(group) for group in core_groups(9, machine)} == {1}


def test_threads_and_instances_are_of_all_workers(machine: Path) -> None:
    report = CoreReport(host=8, affinity=8, limit=None, physical=4)
    seats = on_cores(2, None, None, machine, report)
    assert [(seat.threads, seat.instances) for seat in seats] == [(2, None)] * 2
    seats = on_cores(2, 2, 2, machine, report)
    assert [(seat.threads, seat.instances) for seat in seats] == [(1, 1)] * 2


def test_a_limit_of_the_control_group_is_shared_out(machine: Path) -> None:
    seats = on_cores(2, None, None, machine, CoreReport(host=8, affinity=8, limit=2.0, physical=4))
    assert [seat.threads for seat in seats] == [1, 1]


def test_a_gpu_each_and_round_again() -> None:
    assert [seat.device for seat in on_gpus([0, 1], None, None)] == ["0", "1"]
    seats = on_gpus([0, 1], 4, 8)
    assert [(seat.device, seat.instances) for seat in seats] == [("0", 2), ("1", 2), ("0", 2), ("1", 2)]
