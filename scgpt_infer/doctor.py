"""What this machine has, what would run on it, and what is wrong: `examine` gives a `Diagnosis`.

It looks at packages, providers, the processor, cores, memory and caches. It embeds nothing and prints nothing.
"""

import json
import os
import platform
import re
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from scgpt_runtime import providers
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.choosing import candidates
from scgpt_runtime.errors import ScgptInferError
from scgpt_runtime.machine import cores, processor

__all__ = ["Diagnosis", "Memory", "examine"]

_VERSIONS = (
    *("scgpt-infer", "numpy", "numba", "anndata", "h5py"),
    *("onnxruntime", "onnxruntime-gpu", "openvino", "torch", "onnx"),
)
_EXTRAS = ("export", "parquet", "report")
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+).*extra\s*==\s*['\"]([\w-]+)['\"]")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of memory: of the machine, free to use, and the limit of the control group; None where unknown."""

    total: int | None
    available: int | None
    limit: int | None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that `examine` found.

    Attributes
    ----------
    system
        Operating system, processor and Python.
    versions
        Installed packages that matter, name to version.
    providers
        Providers that can run here.
    processor
        Its name, and the instruction sets that it has for matrix products.
    cores_host, cores_affinity, cores_limit, cores_usable
        As in `scgpt_runtime.machine.CoreReport`.
    memory
        Memory of the machine.
    numba_cache
        Where compiled kernels are kept; None: nowhere, so that each process compiles anew.
    missing
        Extra to the packages of it that are not installed; empty where it is complete.
    runs
        What would run, and why; None when nothing can.
    problems
        What is wrong, each with its repair.
    """

    system: dict[str, str]
    versions: dict[str, str]
    providers: tuple[str, ...]
    processor: str
    cores_host: int
    cores_affinity: int
    cores_limit: float | None
    cores_usable: int
    memory: Memory
    numba_cache: str | None
    missing: dict[str, tuple[str, ...]]
    runs: str | None
    problems: tuple[str, ...]

    def to_json(self) -> str:
        """One JSON object with the fields as they are."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)


def examine(bundle: Path) -> Diagnosis:
    """Look at this machine.

    Parameters
    ----------
    bundle
        The bundle whose run is planned: the bundled demo model, as a rule.
    """
    problems = [problem] if (problem := providers.clash()) else []
    offered: tuple[str, ...] = ()
    runs = None
    try:
        obstacles = {name: providers.obstacle(name) for name in providers.PROVIDERS}
        offered = tuple(name for name, problem in obstacles.items() if problem is None)
        problems += [problem for name in ("cpu", "openvino") if (problem := obstacles[name])]
        choice, *_ = candidates(Bundle.open(bundle).manifest)
        runs = f"{choice.name}: {choice.why}"
    except ScgptInferError as error:
        problems.append(str(error))
    cache = numba_cache()
    if cache is None:
        problems.append("numba has no folder for compiled code, so each process compiles anew: set NUMBA_CACHE_DIR.")
    found, chip = cores(), processor()
    return Diagnosis(
        system={"platform": platform.platform(), "machine": platform.machine(), "python": sys.version.split()[0]},
        versions=versions(),
        providers=offered,
        processor=" ".join((chip.name, *chip.features)),
        cores_host=found.host,
        cores_affinity=found.affinity,
        cores_limit=found.limit,
        cores_usable=found.usable,
        memory=memory(),
        numba_cache=cache,
        missing=missing_packages(),
        runs=runs,
        problems=tuple(problems),
    )


def versions() -> dict[str, str]:
    """Installed packages that matter, name to version."""
    return {name: version for name in _VERSIONS if (version := _version(name))}


def missing_packages() -> dict[str, tuple[str, ...]]:
    """Extra to the packages that it names and that are not installed."""
    named: dict[str, list[str]] = {extra: [] for extra in _EXTRAS}
    for requirement in _requirements():
        found = _REQUIREMENT.match(requirement)
        if found and found[2] in named and not _version(found[1]):
            named[found[2]].append(found[1])
    return {extra: tuple(names) for extra, names in named.items()}


def memory(root: Path = Path("/")) -> Memory:
    """Memory of this machine, as far as the operating system tells.

    Parameters
    ----------
    root
        Where ``proc`` and ``sys`` are found.
    """
    told = dict(re.findall(r"^(\w+):\s+(\d+) kB$", _text(root / "proc/meminfo"), re.MULTILINE))
    total = int(told["MemTotal"]) * 1024 if "MemTotal" in told else _physical()
    available = int(told["MemAvailable"]) * 1024 if "MemAvailable" in told else None
    limit = _text(root / "sys/fs/cgroup/memory.max").strip()
    return Memory(total, available, int(limit) if limit.isdecimal() else None)


def numba_cache() -> str | None:
    """Folder of the compiled kernels, None when there is none that can be written."""
    from scgpt_runtime import kernels

    for function in vars(kernels).values():
        stats = getattr(function, "stats", None)
        if path := getattr(stats, "cache_path", None):
            return str(path)
    return None


def _physical() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _requirements() -> list[str]:
    try:
        return metadata.requires("scgpt-infer") or []
    except metadata.PackageNotFoundError:
        return []


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
