"""What this machine has, what would run on it, and what is wrong: `examine` gives a `Diagnosis`.

It looks at packages, providers, the processor, cores, memory, GPUs and caches. It embeds nothing and prints nothing.
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
from scgpt_runtime.cuda_libraries import advised_extra, build, has_kernels
from scgpt_runtime.errors import MissingDependencyError, ScgptInferError
from scgpt_runtime.gpus import Gpu, driver, gpus, why_none
from scgpt_runtime.machine import cores, processor
from scgpt_runtime.routes import GPU_PRECISIONS, CudaVersions, dialects

__all__ = ["Diagnosis", "GpuFacts", "Graphics", "Memory", "examine"]

_VERSIONS = (
    *("scgpt-infer", "numpy", "numba", "anndata", "h5py"),
    *("onnxruntime", "onnxruntime-gpu", "openvino", "cuda-bindings", "nvidia-ml-py", "torch", "onnx"),
)
_EXTRAS = ("annotate", "export", "integrate", "networks", "parquet", "report", "zarr")
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+).*extra\s*==\s*['\"]([\w-]+)['\"]")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of memory: of the machine, free to use, and the limit of the control group; None where unknown."""

    total: int | None
    available: int | None
    limit: int | None


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """A GPU: its number for CUDA, name, compute capability, bytes of memory (free: None where unknown), and what is
    expected to run fastest on it, None where nothing can.
    """

    index: int
    name: str
    capability: str
    memory: int
    free: int | None
    expected: str | None


@dataclass(frozen=True, slots=True)
class Graphics:
    """What there is for NVIDIA GPUs.

    Attributes
    ----------
    driver
        The driver with the newest CUDA that it runs; None: there is none.
    build
        The installed ONNX Runtime for CUDA, with the CUDA that it was built for; None: it is one for processors.
    cudnn
        Version of cuDNN that would be used, None where nothing asks for one or none loads.
    gpus
        Those that this process may use.
    none
        Why there are none; None where there are.
    """

    driver: str | None
    build: str | None
    cudnn: str | None
    gpus: tuple[GpuFacts, ...]
    none: str | None


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
    graphics
        NVIDIA GPUs, and what they need.
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
    graphics: Graphics
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
    found_driver = driver()
    clash = providers.clash(advised_extra(found_driver) if found_driver else "cpu")
    problems = [clash] if clash else []
    offered: tuple[str, ...] = ()
    runs = None
    obstacles: dict[str, str | None] = {"cuda": "not asked"}
    try:
        obstacles = {name: providers.obstacle(name) for name in providers.PROVIDERS}
        offered = tuple(name for name, problem in obstacles.items() if problem is None)
        expected = ("cpu", *_processor_or_gpu(obstacles, clash))
        problems += [problem for name in expected if (problem := obstacles[name])]
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
        graphics=graphics(usable=obstacles["cuda"] is None),
        numba_cache=cache,
        missing=missing_packages(),
        runs=runs,
        problems=tuple(problems),
    )


def graphics(usable: bool) -> Graphics:
    """GPUs and what they need.

    Parameters
    ----------
    usable
        Whether ``cuda`` has no obstacle here.
    """
    try:
        found = build(providers.onnxruntime())
    except MissingDependencyError:
        found = None
    versions = providers.cuda_versions() if usable else None
    told = driver()
    facts = []
    for gpu in gpus():
        expected = _expected(gpu, versions) if found is not None and has_kernels(gpu, found) else None
        facts.append(GpuFacts(gpu.index, gpu.name, gpu.compute, gpu.memory, gpu.free, expected))
    return Graphics(
        driver=told.name if told else None,
        build=found.name if found else None,
        cudnn=".".join(map(str, versions.cudnn)) if versions and versions.cudnn else None,
        gpus=tuple(facts),
        none=None if facts else why_none(),
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


def _processor_or_gpu(obstacles: dict[str, str | None], clash: str | None) -> tuple[str, ...]:
    """Providers whose absence is a problem here: whoever has a GPU that runs does not miss OpenVINO."""
    if obstacles["cuda"] is None:
        return ()
    return ("openvino", "cuda") if providers.gpu_expected() and not clash else ("openvino",)


def _expected(gpu: Gpu, versions: CudaVersions | None) -> str | None:
    """Provider, precision and graph that the rule takes first on a GPU, if the bundle has it."""
    if versions is None:
        return None
    for precision in GPU_PRECISIONS["cuda"]:
        for route in dialects("cuda", precision, gpu.capability, versions):
            return f"cuda {precision}, {route}"
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
