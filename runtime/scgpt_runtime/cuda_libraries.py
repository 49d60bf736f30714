"""What ONNX Runtime's CUDA and TensorRT providers need of this machine: found, or named with the line that installs it.

In: the installed build of ONNX Runtime, NVIDIA's driver, the GPUs. Out: a sentence, or None when all is there. A
library that cannot be loaded would give a session on the processor without a word, so all of them are tried here first.
"""

import ctypes
import io
import logging
import re
import threading
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from scgpt_runtime.gpus import Driver, Gpu, driver, gpus, why_none

__all__ = ["Build", "advice", "advised_extra", "build", "cudnn", "has_kernels", "missing"]

_CUDNN_LIBRARY = "libcudnn.so.9"
"""The cuDNN that every build from 1.19 on expects; loaded on demand from 1.27 on, so nothing else would name it."""

_TENSORRT_LIBRARIES = ("libnvinfer.so.10", "libnvonnxparser.so.10")
_NEWEST_MAJOR = 13
_DRIVERS = {12: "525", 13: "580"}
"""CUDA to the first driver that runs it (CUDA toolkit release notes, table of minor version compatibility)."""

_BOTH_CUDNN = "nvidia-cudnn-cu12 nvidia-cudnn-cu13"
_PACKAGES = re.compile(r"^nvidia-(cublas|cuda-runtime|cudnn)(-cu\d+)?$")

_log = logging.getLogger(__name__)
_loading = threading.Lock()


@dataclass(frozen=True, slots=True)
class Build:
    """An installed build of ONNX Runtime for CUDA: its version and the CUDA that it was compiled for."""

    version: str
    cuda: tuple[int, int]

    @property
    def name(self) -> str:
        """For people, such as ``onnxruntime-gpu 1.31.1 (CUDA 13.0)``."""
        return f"onnxruntime-gpu {self.version} (CUDA {self.cuda[0]}.{self.cuda[1]})"

    @property
    def extra(self) -> str:
        """The extra that installs it with its libraries."""
        return "gpu-cu12" if self.cuda[0] == 12 else "gpu"


@dataclass(frozen=True, slots=True)
class _Kernels:
    """Compute capabilities that a build holds machine code for, and the one that it can be compiled on from."""

    compiled: tuple[tuple[int, int], ...]
    portable: tuple[int, int] | None

    def run_on(self, capability: tuple[int, int]) -> bool:
        """Machine code runs from its own capability up to the next major one."""
        same = any(found[0] == capability[0] and found <= capability for found in self.compiled)
        return same or (self.portable is not None and self.portable <= capability)


_KERNELS = {
    (1, 26): _Kernels(((6, 0), (7, 0), (7, 5), (8, 0), (8, 6), (9, 0)), (9, 0)),
    (1, 31): _Kernels(((7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (12, 0)), None),
}
"""Version to kernels, as read from the device code of the wheels 1.26.0 and 1.31.1. Of others it is not known."""


def build(runtime: ModuleType) -> Build | None:
    """The installed build; None where it is one for processors."""
    told = str(getattr(runtime, "cuda_version", "") or "")
    found = re.match(r"(\d+)\.(\d+)", told)
    return Build(str(runtime.__version__), (int(found[1]), int(found[2]))) if found else None


def advised_extra(found: Driver | None) -> str:
    """The extra that suits a driver."""
    return "gpu-cu12" if found is not None and found.cuda < (_NEWEST_MAJOR, 0) else "gpu"


def advice(found: Driver | None, first: str = "") -> str:
    """What to install for a driver that was found, or for one that was not.

    Parameters
    ----------
    found
        The driver.
    first
        What has to go before, as a shell command.
    """
    line = f'{first}pip install "scgpt-infer[{advised_extra(found)}]"'
    if found is None:
        return (
            f"For an NVIDIA GPU with driver {_DRIVERS[13]} or newer: {line}; with {_DRIVERS[12]} or newer: [gpu-cu12]."
        )
    if found.cuda[0] < min(_DRIVERS):
        return f"{found.name} is too old: update it to {_DRIVERS[min(_DRIVERS)]} or newer, then: {line}"
    return f"For {found.name}: {line}"


def has_kernels(gpu: Gpu, found: Build) -> bool:
    """Whether a build can run on a GPU, as far as it is known."""
    kernels = _KERNELS.get(_minor(found.version))
    return kernels is None or kernels.run_on(gpu.capability)


def cudnn() -> tuple[int, int, int] | None:
    """Version of the cuDNN that would be used; None where it does not load. Ask `missing` first."""
    try:
        number = _number(_load(_CUDNN_LIBRARY), "cudnnGetVersion")
    except (OSError, AttributeError):
        return None
    return number // 10000, number % 10000 // 100, number % 100


def missing(runtime: ModuleType, provider: str = "cuda") -> str | None:
    """What keeps a GPU provider of a build from running here, with the line that mends it; None when nothing does.

    Parameters
    ----------
    runtime
        The onnxruntime module, of a build that offers the provider.
    provider
        ``cuda`` or ``tensorrt``.
    """
    found = build(runtime)
    if found is None:
        return f"ONNX Runtime {runtime.__version__} does not tell which CUDA it was built for."
    granted = gpus()
    problem = None if granted else why_none()
    if (installed := driver()) is not None:
        problem = _too_old(installed, found) or problem
    return problem or _no_kernels(granted, found) or _unloadable(runtime, found) or _without(runtime, found, provider)


def _switch(extra: str) -> str:
    """The line that puts one build for GPUs in the place of the other. The cuDNN of both has one folder and the same
    file names, so taking one away may break the other: both go.
    """
    return f'pip uninstall -y onnxruntime-gpu {_BOTH_CUDNN} && pip install "scgpt-infer[{extra}]"'


def _too_old(installed: Driver, found: Build) -> str | None:
    if installed.cuda[0] >= found.cuda[0]:
        return None
    needs = f"{found.name} needs driver {_DRIVERS.get(found.cuda[0], 'of its CUDA')} or newer"
    if installed.cuda[0] < min(_DRIVERS):
        oldest = min(_DRIVERS)
        return (
            f"{installed.name} is too old: {needs}, and CUDA {oldest} is the oldest that scgpt-infer runs on. "
            f"Update the driver to {_DRIVERS[oldest]} or newer, or take --provider cpu."
        )
    return (
        f"{installed.name} is too old: {needs}. Take the build for CUDA {installed.cuda[0]}: "
        f"{_switch(advised_extra(installed))}; or update the driver."
    )


def _no_kernels(granted: tuple[Gpu, ...], found: Build) -> str | None:
    """Why no GPU can run the build; None where one can."""
    if any(has_kernels(gpu, found) for gpu in granted):
        return None
    told = ", ".join(f"{gpu.name} (device {gpu.index}) has compute capability {gpu.compute}" for gpu in granted)
    kernels = _KERNELS[_minor(found.version)]
    holds = ", ".join(f"{major}.{minor}" for major, minor in kernels.compiled)
    others = [version for version, other in _KERNELS.items() if other.run_on(granted[0].capability)]
    repair = f"Take the other build: {_switch('gpu-cu12' if others[0] < (1, 27) else 'gpu')}" if others else ""
    return f"{told}; {found.name} has kernels for {holds}. " + (repair or "No build has any: take --provider cpu.")


def _unloadable(runtime: ModuleType, found: Build) -> str | None:
    """Which library is missing or does not fit."""
    error = _libraries(runtime)
    if error is None:
        return _other_cudnn(found)
    # cuDNN's files go when that of the other CUDA is taken away, while pip goes on to list it as installed.
    line = _switch(found.extra) if _CUDNN_LIBRARY in error else f'pip install "scgpt-infer[{found.extra}]"'
    return (
        f"{found.name} cannot load what it needs: {error}. Expected: libraries of CUDA {found.cuda[0]} and cuDNN 9; "
        f"found: {_nvidia_packages()}. Install them: {line}"
    )


def _without(runtime: ModuleType, found: Build, provider: str) -> str | None:
    """What a provider lacks beside ONNX Runtime and CUDA."""
    return _without_tensorrt(runtime) if provider == "tensorrt" else _without_bindings(found)


def _without_bindings(found: Build) -> str | None:
    """Whether the package through which batches go to the GPU is there, for the CUDA of the build."""
    try:
        version = metadata.version("cuda-bindings")
    except metadata.PackageNotFoundError:
        version = ""
    if version.split(".")[0] == str(found.cuda[0]):
        return None
    told = f"cuda-bindings {version}" if version else "no cuda-bindings"
    return (
        f"{found.name} runs with NVIDIA's package cuda-bindings {found.cuda[0]}; found: {told}. "
        f'Install it: pip install "scgpt-infer[{found.extra}]"'
    )


def _without_tensorrt(runtime: ModuleType) -> str | None:
    error = _loaded(*_TENSORRT_LIBRARIES, str(_provider_library(runtime, "tensorrt")))
    if error is None:
        return None
    return (
        f"ONNX Runtime {runtime.__version__} needs TensorRT 10 for provider tensorrt: {error}. No extra of scgpt-infer "
        "installs it, since the Python package index offers TensorRT 11 alone: take it from NVIDIA and put its folder "
        "into LD_LIBRARY_PATH, or take --provider cuda."
    )


@cache
def _libraries(runtime: ModuleType) -> str | None:
    """Load the provider with all that it needs, as ONNX Runtime itself would; what the loader says when it cannot.

    Once a process: it takes seconds when the files are cold, and what is loaded stays.
    """
    said = _preloaded(runtime)
    error = _loaded(str(_provider_library(runtime, "cuda")), _CUDNN_LIBRARY)
    if said:
        (_log.debug if error is None else _log.warning)("ONNX Runtime said while it loaded CUDA: %s", said)
    return error


def _preloaded(runtime: ModuleType) -> str:
    """Have ONNX Runtime load CUDA's libraries from their packages. What it printed or warned, in one line."""
    preload: Callable[[], None] | None = getattr(runtime, "preload_dlls", None)
    if preload is None:  # a build before 1.21
        return ""
    printed = io.StringIO()
    with _loading, redirect_stdout(printed), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        preload()
    lines = [*printed.getvalue().splitlines(), *(str(one.message) for one in warned)]
    return "; ".join(line.strip() for line in lines if line.strip())


def _other_cudnn(found: Build) -> str | None:
    """Why the cuDNN that was found is the wrong one: that of either CUDA has the same file name."""
    try:
        cuda = _number(_load(_CUDNN_LIBRARY), "cudnnGetCudartVersion") // 1000
    except (OSError, AttributeError):
        return None
    if cuda == found.cuda[0]:
        return None
    return (
        f"{_CUDNN_LIBRARY} was built for CUDA {cuda}, but {found.name} expects the one for CUDA {found.cuda[0]}. "
        f"Found: {_nvidia_packages()}. Repair it: {_switch(found.extra)}"
    )


def _loaded(*names: str) -> str | None:
    """Load libraries in order; what the loader says of the first that it cannot."""
    for name in names:
        try:
            _load(name)
        except OSError as error:
            return str(error)
    return None


def _load(name: str) -> Any:
    return ctypes.CDLL(name)


def _number(library: Any, function: str) -> int:
    ask = getattr(library, function)
    ask.restype = ctypes.c_size_t
    return int(ask())


def _provider_library(runtime: ModuleType, provider: str) -> Path:
    return Path(str(runtime.__file__)).parent / "capi" / f"libonnxruntime_providers_{provider}.so"


def _nvidia_packages() -> str:
    """Installed packages of CUDA libraries, for a message."""
    named = {str(one.metadata["Name"]).lower(): one.version for one in metadata.distributions() if one.metadata["Name"]}
    told = [f"{name} {version}" for name, version in sorted(named.items()) if _PACKAGES.match(name)]
    return ", ".join(told) or "no package of NVIDIA's libraries"


def _minor(version: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)
