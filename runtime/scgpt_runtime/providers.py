"""Which execution provider, precision and number of threads run a bundle here, and why.

In: what was asked for, what the bundle holds, what this machine has. Out: `ProviderChoice`. It opens no graph.
"""

import importlib
import logging
import math
import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType

from scgpt_runtime.errors import MissingDependencyError, OptionError, ProviderError
from scgpt_runtime.manifest import Manifest

__all__ = [
    "PROVIDERS",
    "CoreReport",
    "ProviderChoice",
    "available",
    "choose",
    "clash",
    "cores",
    "installed",
    "onnxruntime",
]

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
"""Our name of each provider to ONNX Runtime's."""

_ON_GPU = ("cuda", "tensorrt")
_RUNS = ("cpu",)
"""Providers that this version runs."""

_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-ep-openvino")
_REPAIR = 'pip uninstall -y onnxruntime onnxruntime-gpu && pip install "scgpt-infer[{extra}]"'

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProviderChoice:
    """What runs.

    Attributes
    ----------
    provider
        Our name: ``cpu``, ``openvino``, ``cuda`` or ``tensorrt``.
    onnxruntime_name
        ONNX Runtime's name of it.
    precision
        Precision of the graph.
    dialect
        Dialect of the graph.
    threads
        Cores that it uses in all.
    why
        One sentence for people.
    """

    provider: str
    onnxruntime_name: str
    precision: str
    dialect: str
    threads: int
    why: str


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
    """

    host: int
    affinity: int
    limit: float | None

    @property
    def usable(self) -> int:
        """Whole cores that this process can keep busy, at least 1."""
        granted = self.affinity if self.limit is None else min(self.affinity, math.floor(self.limit))
        return max(1, granted)


def choose(
    manifest: Manifest,
    provider: str = "auto",
    precision: str = "auto",
    *,
    device: str = "auto",
    threads: int | None = None,
    task: str = "embed",
) -> ProviderChoice:
    """Decide what runs a bundle's task on this machine.

    Parameters
    ----------
    manifest
        Tells which precisions are sealed.
    provider
        ``auto`` or a key of `PROVIDERS`.
    precision
        ``auto`` or a precision.
    device
        ``auto``, or the number of a device.
    threads
        Cores in all; None: those that this process may use.
    task
        The task whose graphs count.

    Raises
    ------
    OptionError
        A value that does not exist.
    ProviderError
        The provider cannot run here, or the precision is not sealed.
    MissingDependencyError
        ONNX Runtime is not installed.
    """
    if provider != "auto" and provider not in PROVIDERS:
        raise OptionError(f"There is no provider {provider!r}; expected auto, {', '.join(PROVIDERS)}.")
    if threads is not None and threads < 1:
        raise OptionError(f"threads is {threads}; expected 1 or more.")
    _check_clash(provider)
    taken = "cpu" if provider == "auto" else provider
    if taken not in _RUNS or PROVIDERS[taken] not in available():
        raise _cannot_run(taken)
    if device not in ("auto", "0"):
        raise OptionError(f"device is {device!r}, but provider {taken} has one device: leave it at auto.")
    found = cores()
    count = found.usable if threads is None else threads
    sealed = _sealed(manifest, task)
    return ProviderChoice(
        provider=taken,
        onnxruntime_name=PROVIDERS[taken],
        precision=_precision(manifest, sealed, precision, task),
        dialect="portable",
        threads=count,
        why=_why(provider, precision, threads, found),
    )


def available() -> tuple[str, ...]:
    """ONNX Runtime's names of the providers that its installed package was built with.

    Raises
    ------
    MissingDependencyError
        ONNX Runtime is not installed.
    """
    return tuple(onnxruntime().get_available_providers())


def installed() -> dict[str, str]:
    """Installed distributions of ONNX Runtime, name to version."""
    found = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def clash(extra: str = "cpu") -> str | None:
    """What is wrong when two distributions share the folder ``onnxruntime``, with the repair; None when all is well."""
    found = installed()
    both = [name for name in ("onnxruntime", "onnxruntime-gpu") if name in found]
    if len(both) < 2:
        return None
    return (
        f"Both onnxruntime {found['onnxruntime']} and onnxruntime-gpu {found['onnxruntime-gpu']} are installed; "
        f"each overwrites files of the other. Repair it: {_REPAIR.format(extra=extra)}"
    )


def onnxruntime() -> ModuleType:
    """The onnxruntime module.

    Raises
    ------
    MissingDependencyError
        It is not installed, or only remains of it are.
    """
    try:
        module = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise MissingDependencyError(
            f"ONNX Runtime cannot be imported ({error}). Install it: "
            'pip install "scgpt-infer[cpu]", or pip install "scgpt-infer[gpu]" for an NVIDIA GPU.'
        ) from error
    if not hasattr(module, "InferenceSession"):  # what uninstalling one of two distributions leaves behind
        raise MissingDependencyError(
            f"Only remains of ONNX Runtime are installed. Repair it: {_REPAIR.format(extra='cpu')}"
        )
    return module


def cores(root: Path = Path("/")) -> CoreReport:
    """Cores that this process may use: its affinity, and the limit of its control group (version 1 or 2).

    Parameters
    ----------
    root
        Where ``proc`` and ``sys`` are found.
    """
    host = os.cpu_count() or 1
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else host
    limits = [limit for folder in _control_groups(root) if (limit := _cpu_limit(folder)) is not None]
    return CoreReport(host, affinity, min(limits, default=None))


def _control_groups(root: Path) -> list[Path]:
    """Every folder, from the process's own group up to the top, that can limit its CPU time."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    mount, folders = root / "sys/fs/cgroup", []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for top in (mount / controllers, mount / "cpu") if controllers else (mount,):
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


def _check_clash(provider: str) -> None:
    problem = clash("gpu" if provider in _ON_GPU else "cpu")
    if problem and provider in _ON_GPU:
        raise ProviderError(problem)
    if problem:
        _log.warning(problem)


def _cannot_run(provider: str) -> ProviderError:
    offered = available()
    if provider in _ON_GPU and PROVIDERS[provider] not in offered:
        first = "pip uninstall -y onnxruntime && " if "onnxruntime" in installed() else ""
        return ProviderError(
            f"Provider {provider} cannot run here: the installed ONNX Runtime offers {', '.join(offered)}. "
            f"For an NVIDIA GPU: {first}pip install 'scgpt-infer[gpu]'"
        )
    return ProviderError(f"This version of scgpt-infer does not run provider {provider}. Take --provider cpu.")


def _sealed(manifest: Manifest, task: str) -> list[str]:
    """Precisions that the task has graphs in, in the manifest's order: best parity first."""
    with_graph = {graph.precision for graph in manifest.graphs if graph.task == task}
    return [precision for precision in manifest.precisions if precision in with_graph]


def _precision(manifest: Manifest, sealed: list[str], precision: str, task: str) -> str:
    if precision == "auto" and sealed:
        return "fp32" if "fp32" in sealed else sealed[0]
    if precision in sealed:
        return precision
    raise ProviderError(
        f"Bundle {manifest.name} has no {precision} graph for {task}; sealed: {', '.join(sealed) or 'none'}. "
        "Take one of these, or export again with fp32, fp16 or int8 in --precision."
    )


def _why(provider: str, precision: str, threads: int | None, found: CoreReport) -> str:
    parts = [
        "provider cpu, the one that runs everywhere" if provider == "auto" else f"provider {provider} as asked",
        "fp32, the reference's own precision" if precision == "auto" else f"precision {precision} as asked",
    ]
    if threads is not None:
        parts.append(f"{threads} threads as asked")
    elif found.usable < found.host:
        parts.append(f"{found.usable} of the host's {found.host} cores, the share that this process is granted")
    else:
        parts.append(f"all {found.host} cores")
    return "; ".join(parts)
