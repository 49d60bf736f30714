from pathlib import Path

import pytest

from scgpt_runtime.machine import CoreReport, cores, free_memory, processor, resident


@pytest.mark.parametrize(
    ("report", "usable"),
    [
        (CoreReport(64, 64, None), 64),
        (CoreReport(64, 8, None), 8),
        (CoreReport(64, 64, 4.0), 4),
        (CoreReport(64, 2, 4.0), 2),
        (CoreReport(64, 64, 2.5), 2),
        (CoreReport(64, 64, 0.5), 1),
        (CoreReport(64, 64, None, 32), 32),
        (CoreReport(64, 2, None, 1), 1),
    ],
)
def test_never_more_than_affinity_and_control_group_grant(report, usable):
    assert report.usable == usable


def machine(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    for name, content in {"proc/self/cgroup": cgroup, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


GROUPS = "sys/fs/cgroup/"


@pytest.mark.parametrize(
    ("cgroup", "files", "limit"),
    [
        ("0::/\n", {GROUPS + "cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {GROUPS + "cpu.max": "max 100000\n"}, None),
        ("0::/\n", {}, None),
        ("0::/a/b\n", {GROUPS + "a/cpu.max": "200000 100000\n", GROUPS + "a/b/cpu.max": "max 100000\n"}, 2.0),
        ("0::/host/only/path\n", {GROUPS + "cpu.max": "300000 100000\n"}, 3.0),
        ("0::/../../x\n", {GROUPS + "cpu.max": "rubbish\n"}, None),
        (
            "5:cpu,cpuacct:/job\n3:memory:/job\n",
            {
                GROUPS + "cpu,cpuacct/job/cpu.cfs_quota_us": "400000",
                GROUPS + "cpu,cpuacct/job/cpu.cfs_period_us": "100000",
            },
            4.0,
        ),
        (
            "5:cpu,cpuacct:/docker/xyz\n",
            {GROUPS + "cpu/cpu.cfs_quota_us": "250000\n", GROUPS + "cpu/cpu.cfs_period_us": "100000\n"},
            2.5,
        ),
        ("5:cpu:/\n", {GROUPS + "cpu/cpu.cfs_quota_us": "-1\n", GROUPS + "cpu/cpu.cfs_period_us": "100000\n"}, None),
    ],
)
def test_control_groups_of_both_versions_are_read(tmp_path, cgroup, files, limit):
    assert cores(machine(tmp_path, cgroup, files)).limit == limit


def test_a_machine_without_control_groups_has_no_limit(tmp_path):
    assert cores(tmp_path).limit is None


def test_two_hardware_threads_are_one_core(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    for core, siblings in ((0, "0,2"), (1, "1,3"), (2, "0,2")):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{core}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings + "\n")
    found = cores(tmp_path)
    assert (found.affinity, found.physical, found.usable) == (3, 2, 2)


CPUINFO = "processor : 0\nmodel name : Some Chip\nflags : fpu avx2 amx_bf16 avx512f\n"


def test_a_processor_tells_its_instruction_sets_strongest_first(tmp_path):
    found = processor(machine(tmp_path, "", {"proc/cpuinfo": CPUINFO}))
    assert (found.name, found.features) == ("Some Chip", ("amx_bf16", "avx512f", "avx2"))


def test_an_arm_processor_tells_them_under_another_name(tmp_path):
    found = processor(machine(tmp_path, "", {"proc/cpuinfo": "processor : 0\nFeatures : fp asimd bf16 i8mm\n"}))
    assert found.features == ("bf16", "i8mm", "asimd")


def test_a_system_that_tells_nothing_has_no_known_features(tmp_path):
    assert processor(tmp_path).features == ()


MEMINFO = {"proc/meminfo": "MemTotal: 100 kB\nMemAvailable: 64 kB\n"}


@pytest.mark.parametrize(
    ("cgroup", "files", "free"),
    [
        ("0::/\n", {}, 65536),
        ("0::/\n", {GROUPS + "memory.max": "max\n", GROUPS + "memory.current": "5\n"}, 65536),
        ("0::/a\n", {GROUPS + "a/memory.max": "5000\n", GROUPS + "a/memory.current": "2000\n"}, 3000),
        ("0::/a\n", {GROUPS + "a/memory.max": "5000\n", GROUPS + "a/memory.current": "6000\n"}, 0),
        (
            "0::/a\n",
            {
                GROUPS + "a/memory.max": "50000\n",
                GROUPS + "a/memory.current": "45000\n",
                GROUPS + "a/memory.stat": "anon 5000\ninactive_file 30000\nactive_file 10000\n",
            },
            45000,
        ),
        (
            "4:memory:/job\n",
            {
                GROUPS + "memory/job/memory.limit_in_bytes": "900",
                GROUPS + "memory/job/memory.usage_in_bytes": "100",
            },
            800,
        ),
    ],
)
def test_free_memory_is_the_least_of_machine_and_control_group(tmp_path, cgroup, files, free):
    assert free_memory(machine(tmp_path, cgroup, MEMINFO | files)) == free


def test_memory_is_unknown_where_the_system_does_not_tell(tmp_path):
    assert free_memory(tmp_path) is None


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells what a process holds")
def test_resident_memory_grows_with_what_is_held():
    before = resident()
    held = bytearray(b"x" * (64 << 20))
    assert resident() - before > 48 << 20
    del held
