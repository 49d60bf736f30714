"""What this machine has and grants: instruction sets of the processor, cores, memory.

In: the files with which the system tells of itself. Out: small reports. It knows no provider and no model.
"""

import math
import os
import platform
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["CoreReport", "Processor", "cores", "free_memory", "processor", "resident"]

_FEATURES = (
    "amx_bf16", "amx_int8", "avx512_bf16", "avx512_vnni", "avx_vnni", "avx512f", "avx2", "bf16", "i8mm", "asimd",
)  # fmt: skip
"""Instruction sets that decide how fast a matrix product is, as Linux names them; the last three are arm64's."""

_APPLE = {"hw.optional.arm.FEAT_BF16": "bf16", "hw.optional.arm.FEAT_I8MM": "i8mm", "hw.optional.AdvSIMD": "asimd"}
_MEMORY_FILES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))


@dataclass(frozen=True, slots=True)
class Processor:
    """A processor.

    Attributes
    ----------
    name
        What its maker calls it, or its architecture.
    architecture
        ``x86_64``, ``arm64``, ...
    features
        Instruction sets for matrix products that it has, strongest first; empty where the system does not tell.
    """

    name: str
    architecture: str
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CoreReport:
    """Cores of this machine, and how many of them this process may use.

    Attributes
    ----------
    host
        Logical cores of the machine.
    affinity
        Those that the process may be scheduled on.
    limit
        Cores' worth of time that a container's control group grants, None without a limit.
    physical
        Cores behind those in `affinity`: two hardware threads share one core's arithmetic. None: not known.
    """

    host: int
    affinity: int
    limit: float | None
    physical: int | None = None

    @property
    def usable(self) -> int:
        """Whole cores that this process can keep busy with matrix products, at least 1."""
        own = self.affinity if self.physical is None else min(self.affinity, self.physical)
        return max(1, own if self.limit is None else min(own, math.floor(self.limit)))


@cache
def processor(root: Path = Path("/")) -> Processor:
    """The processor that this process runs on.

    Parameters
    ----------
    root
        Where ``proc`` is found.
    """
    architecture = {"amd64": "x86_64", "aarch64": "arm64"}.get(platform.machine().lower(), platform.machine().lower())
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return _apple(architecture) if platform.system() == "Darwin" else Processor(architecture, architecture, ())
    told = dict(line.split(":", 1) for line in reversed(text.splitlines()) if ":" in line)
    fields = {key.strip(): value.strip() for key, value in told.items()}
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    features = tuple(name for name in _FEATURES if name in flags)
    return Processor(fields.get("model name", architecture), architecture, features)


def cores(root: Path = Path("/")) -> CoreReport:
    """Cores that this process may use: its affinity, and the limit of its control group (version 1 or 2).

    Parameters
    ----------
    root
        Where ``proc`` and ``sys`` are found.
    """
    host = os.cpu_count() or 1
    granted = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(host))
    limits = [limit for folder in _control_groups(root, "cpu") if (limit := _cpu_limit(folder)) is not None]
    return CoreReport(host, len(granted), min(limits, default=None), _physical(root, granted))


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process may still take: what the machine has free, and what its control group leaves.

    None where the system does not tell.
    """
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        free = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError):
        return None
    free += [left for folder in _control_groups(root, "memory") if (left := _memory_left(folder)) is not None]
    return max(0, min(free)) if free else None


def resident() -> int | None:
    """Bytes of memory that this process holds now (proportional set size); None where the system does not tell."""
    try:
        for line in Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def _apple(architecture: str) -> Processor:
    def told(name: str) -> str:
        try:
            done = subprocess.run(["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, timeout=5)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout.strip()

    features = tuple(feature for name, feature in _APPLE.items() if told(name) == "1")
    return Processor(told("machdep.cpu.brand_string") or architecture, architecture, features)


def _physical(root: Path, granted: set[int]) -> int | None:
    siblings = set()
    for core in granted:
        path = root / f"sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"
        try:
            siblings.add(path.read_text(encoding="ascii").strip())
        except OSError:
            return None
    return len(siblings) or None


def _control_groups(root: Path, controller: str) -> list[Path]:
    """Every folder, from the process's own group up to the top, that can limit a resource."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    mount, folders = root / "sys/fs/cgroup", []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        for top in (mount / controllers, mount / controller) if controllers else (mount,):
            own = top / group.strip("/")
            # Inside a container the group's path may be the host's, and only the top is mounted.
            folders += [folder for folder in (own, *own.parents) if folder.is_relative_to(top)]
    return folders


def _cpu_limit(folder: Path) -> float | None:
    """Cores' worth of time that one control group grants."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8").strip()
            period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8").strip()
        return int(quota) / int(period) if quota not in ("max", "-1") else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _memory_left(folder: Path) -> int | None:
    """Bytes that one control group still grants; what it holds of files only because nobody needed the room counts."""
    for limit, used in _MEMORY_FILES:
        try:
            granted, taken = (int((folder / name).read_text(encoding="ascii")) for name in (limit, used))
        except (OSError, ValueError):  # no such file, or the limit is "max"
            continue
        return granted - taken + _file_cache(folder)
    return None


def _file_cache(folder: Path) -> int:
    """Bytes of files that a control group holds and gives up when asked."""
    try:
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        told = {name: int(value) for name, value in (line.split() for line in lines)}
    except (OSError, ValueError):
        return 0
    prefix = "total_" if "total_inactive_file" in told else ""  # version 1 counts groups below apart
    return told.get(f"{prefix}inactive_file", 0) + told.get(f"{prefix}active_file", 0)
