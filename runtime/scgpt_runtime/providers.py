"""The execution providers: what they are called, which of them this machine can run, and what each can compute.

In: installed packages. Out: `ProviderChoice` for whoever opens a graph, and sentences for people. It opens no
graph and knows no bundle.
"""

import importlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from scgpt_runtime.cuda_libraries import advice, advised_extra, build, cudnn, has_kernels, missing
from scgpt_runtime.errors import MissingDependencyError, ProviderError
from scgpt_runtime.gpus import Gpu, driver, gpus
from scgpt_runtime.machine import processor
from scgpt_runtime.routes import CudaVersions

__all__ = [
    "BF16_UNITS",
    "ONNXRUNTIME_NAMES",
    "ON_GPU",
    "PROVIDERS",
    "ProviderChoice",
    "available",
    "clash",
    "cuda_versions",
    "gpu_expected",
    "installed",
    "obstacle",
    "onnxruntime",
    "openvino_computes",
    "openvino_core",
    "usable_gpus",
]

PROVIDERS = ("cpu", "openvino", "cuda", "tensorrt")
"""Providers by the names that users give them."""

ONNXRUNTIME_NAMES = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
"""ONNX Runtime's name of those that it runs; ``openvino`` is a library of its own."""

ON_GPU = ("cuda", "tensorrt")
"""Providers that run on an NVIDIA GPU."""

BF16_UNITS = ("amx_bf16", "avx512_bf16", "bf16")
"""Instruction sets that multiply bf16."""

_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "openvino")
_REPAIR = 'pip uninstall -y onnxruntime onnxruntime-gpu && pip install "scgpt-infer[{extra}]"'

_log = logging.getLogger(__name__)
_opening = threading.Lock()


@dataclass(frozen=True, slots=True)
class ProviderChoice:
    """What runs.

    Attributes
    ----------
    provider
        ``cpu``, ``openvino``, ``cuda`` or ``tensorrt``.
    precision
        Precision of the arithmetic, as users ask for it.
    sealed
        Precision of the graph that is opened: OpenVINO computes bf16 from the fp32 graph.
    dialect
        Dialect of the graph.
    instances
        Batches that are answered at a time; on GPUs, those of all of them.
    threads
        Cores that each instance uses; 1 on a GPU, where an instance only waits.
    why
        One sentence for people.
    devices
        GPUs by CUDA's own numbers, instance i on ``devices[i % len(devices)]``; empty on a processor.
    """

    provider: str
    precision: str
    sealed: str
    dialect: str
    instances: int
    threads: int
    why: str
    devices: tuple[int, ...] = ()

    @property
    def arithmetic(self) -> str:
        """Class of the arithmetic: vectors of two classes are not comparable, whatever else is equal."""
        return f"{self.precision}-static" if self.dialect == "openvino" else self.precision

    @property
    def cores(self) -> int:
        """Cores in all."""
        return self.instances * self.threads

    @property
    def name(self) -> str:
        """Provider, precision and layout, for people."""
        instances = f"{self.instances} instance" + "s" * (self.instances > 1)
        if self.devices:
            numbers = "device" + "s" * (len(self.devices) > 1) + " " + ", ".join(map(str, self.devices))
            return f"{self.provider} {self.precision}, {instances} on {numbers}, {self.dialect}"
        return f"{self.provider} {self.precision}, {instances} x {self.threads} thread" + "s" * (self.threads > 1)


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
    # In two places, one of them is imported and the other does no harm.
    if len(both) < 2 or len({_place(name) for name in both}) > 1:
        return None
    return (
        f"Both onnxruntime {found['onnxruntime']} and onnxruntime-gpu {found['onnxruntime-gpu']} are installed; "
        f"each overwrites files of the other. Repair it: {_REPAIR.format(extra=extra)}"
    )


def _place(distribution: str) -> Path:
    """Folder that an installed distribution lies in."""
    return Path(str(metadata.distribution(distribution).locate_file(""))).resolve()


def onnxruntime() -> ModuleType:
    """The onnxruntime module.

    Raises
    ------
    MissingDependencyError
        It is not installed, or only remains of it are.
    """
    # Its official builds report use to their maker unless told not to before they load.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
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


def openvino_core() -> Any:
    """OpenVINO's entrance, one a process.

    Raises
    ------
    MissingDependencyError
        OpenVINO is not installed or does not load.
    ProviderError
        This process was forked from one that used OpenVINO, whose threads did not come along.
    """
    with _opening:  # several threads may open their first model at once
        core, process = _opened_core()
    if process != os.getpid():
        raise ProviderError(
            "OpenVINO was used before this process was forked, and would wait for threads that are not here. "
            "Start workers afresh, multiprocessing.set_start_method('spawn'), or take --provider cpu."
        )
    return core


@cache
def _opened_core() -> tuple[Any, int]:
    """OpenVINO's entrance, and the process that opened it."""
    try:
        with warnings.catch_warnings(), _without("openvino_telemetry"):
            warnings.simplefilter("ignore")
            return importlib.import_module("openvino").Core(), os.getpid()
    except Exception as error:  # a missing system library raises what the loader likes
        raise MissingDependencyError(
            f'OpenVINO cannot be loaded ({error}). Install it: pip install "scgpt-infer[cpu]"'
        ) from error


@contextmanager
def _without(name: str) -> Iterator[None]:
    """Make a module look absent. OpenVINO counts its users through a package that it can do without: an inference
    engine tells nobody that it runs.
    """
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]  # what the import system takes for "not there"
    try:
        yield
    finally:
        sys.modules.pop(name, None)
        if before is not None:
            sys.modules[name] = before


def openvino_computes() -> tuple[str, ...]:
    """Precisions that OpenVINO computes natively on this processor, fastest first; empty where it cannot be used."""
    try:
        core = openvino_core()
        if "CPU" not in core.available_devices:
            return ()
        able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except (MissingDependencyError, RuntimeError):
        return ()
    native = {"BF16": "bf16", "FP16": "fp16", "FP32": "fp32", "INT8": "int8"}
    has = processor().features
    if has and not any(name in has for name in BF16_UNITS):
        del native["BF16"]  # it is emulated there, slower than fp32
    return tuple(name for word, name in native.items() if word in able)


def gpu_expected() -> bool:
    """Whether a GPU is what this machine was set up for: the installed build is one for CUDA, or NVIDIA's driver is
    there. Costs nothing where neither is.
    """
    return "onnxruntime-gpu" in installed() or driver() is not None


def usable_gpus() -> tuple[Gpu, ...]:
    """GPUs that the installed build of ONNX Runtime can run on; at least one where ``cuda`` has no `obstacle`."""
    found = build(onnxruntime())
    return tuple(gpu for gpu in gpus() if found is not None and has_kernels(gpu, found))


def cuda_versions() -> CudaVersions:
    """Versions that decide how CUDA computes; to be asked where ``cuda`` has no `obstacle`."""
    major, minor, *_ = onnxruntime().__version__.split(".")
    return CudaVersions((int(major), int(minor)), cudnn())


def obstacle(provider: str) -> str | None:
    """Why a provider cannot run here, with what to do; None when it can."""
    if provider == "openvino":
        return _openvino_obstacle()
    on_gpu = provider in ON_GPU
    problem = clash(advised_extra(driver()) if on_gpu else "cpu")
    if problem and on_gpu:
        return problem
    if problem:
        _log.warning(problem)
    try:
        offered = available()
    except MissingDependencyError as error:
        return str(error)
    if not on_gpu:
        return None if ONNXRUNTIME_NAMES[provider] in offered else "The installed ONNX Runtime has no CPU provider."
    if ONNXRUNTIME_NAMES[provider] not in offered:
        first = "pip uninstall -y onnxruntime && " if "onnxruntime" in installed() else ""
        told = f"the installed ONNX Runtime offers {', '.join(offered)}"
        return f"Provider {provider} cannot run here: {told}. {advice(driver(), first)}"
    return missing(onnxruntime(), provider)


def _openvino_obstacle() -> str | None:
    found = installed()
    if "openvino" not in found:
        # The extra for processors would put a second ONNX Runtime over the one for GPUs.
        what = "openvino" if "onnxruntime-gpu" in found else '"scgpt-infer[cpu]"'
        return f"OpenVINO is not installed. Install it: pip install {what}"
    try:
        openvino_core()
    except MissingDependencyError as error:
        return str(error)
    return None if openvino_computes() else "OpenVINO finds no processor that it can use here."
