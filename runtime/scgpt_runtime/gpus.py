"""NVIDIA's driver and the GPUs that it grants this process, asked without touching them.

In: the driver's library, the kernel's word on it, NVML where nvidia-ml-py is installed. Out: `Driver` and `Gpu`, or a
sentence that says why there is none. No context is made, so no memory is taken. It knows nothing of ONNX Runtime.
"""

import contextlib
import ctypes
import importlib
import os
import re
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Cuda", "CudaError", "Driver", "Gpu", "driver", "gpus", "why_none"]

_LIBRARY = "libcuda.so.1"
_MAJOR, _MINOR, _L2, _PROCESSORS = 75, 76, 38, 16  # numbers of CUdevice_attribute in cuda.h
_UUID_BYTES, _NAME_BYTES = 16, 256

_CODES = {
    3: "CUDA was used before this process was forked: start workers afresh, multiprocessing.set_start_method('spawn')",
    34: f"{_LIBRARY} is the toolkit's stub, which is for linking only: take its folder out of LD_LIBRARY_PATH",
    100: "it finds no GPU",
    500: f"{_LIBRARY} lacks a function that NVIDIA's has had since CUDA 11.4: it is a stand-in, or of an older driver",
    802: "the system is not ready: on a machine with NVSwitch, nvidia-fabricmanager has to run in the driver's version",
    803: "its library and its kernel module are of different versions: restart the machine, or the container",
    804: "the cuda-compat library does not work with this GPU: take its folder out of LD_LIBRARY_PATH",
    999: "unknown error: often the kernel module nvidia-uvm is not loaded (sudo modprobe nvidia-uvm)",
}
"""What CUresult numbers of cuda.h mean for whoever has to mend it."""


@dataclass(frozen=True, slots=True)
class Driver:
    """NVIDIA's driver: its own version, empty where nothing tells it, and the newest CUDA that it runs."""

    version: str
    cuda: tuple[int, int]

    @property
    def name(self) -> str:
        """For people, such as ``NVIDIA driver 550.54.15 (CUDA 12.4)``."""
        return " ".join(("NVIDIA driver", *([self.version] if self.version else []), f"(CUDA {_dotted(self.cuda)})"))


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that this process may use.

    Attributes
    ----------
    index
        Its number for CUDA in this process: ``CUDA_VISIBLE_DEVICES`` has been applied.
    name
        Such as ``NVIDIA H100 80GB HBM3``.
    capability
        Compute capability, such as (9, 0).
    memory, free
        Bytes in all, and bytes that nobody has taken; free is None where NVML does not tell.
    l2
        Bytes of the L2 cache.
    processors
        Streaming multiprocessors.
    uuid
        Such as ``GPU-`` and a UUID; ``MIG-`` for a part of one.
    """

    index: int
    name: str
    capability: tuple[int, int]
    memory: int
    free: int | None
    l2: int
    processors: int
    uuid: str

    @property
    def compute(self) -> str:
        """Compute capability for people, such as ``9.0``."""
        return _dotted(self.capability)


class CudaError(Exception):
    """The driver answered with a code other than success."""

    def __init__(self, code: int) -> None:
        super().__init__(_CODES.get(code, f"CUDA error {code}"))
        self.code = code


class Cuda:
    """The few functions of the driver's library that ask and change nothing. Each raises `CudaError`.

    Its own C interface, and no package for it: the question comes first on machines where only the build of ONNX
    Runtime for processors is installed, and these functions have been the same since CUDA 11.4.

    Parameters
    ----------
    library
        The loaded ``libcuda.so.1``.
    """

    def __init__(self, library: Any) -> None:
        self._library = library

    def init(self) -> None:
        """Make the driver ready."""
        self._call("cuInit", 0)

    def version(self) -> int:
        """Newest CUDA that the driver runs, 1000 * major + 10 * minor; needs no `init`."""
        return self._number("cuDriverGetVersion")

    def count(self) -> int:
        """GPUs that this process may use."""
        return self._number("cuDeviceGetCount")

    def name(self, index: int) -> str:
        """What NVIDIA calls a GPU."""
        text = ctypes.create_string_buffer(_NAME_BYTES)
        self._call("cuDeviceGetName", text, _NAME_BYTES, self._device(index))
        return text.value.decode("utf-8", "replace")

    def attribute(self, index: int, number: int) -> int:
        """An attribute of a GPU by its number in cuda.h."""
        return self._number("cuDeviceGetAttribute", number, self._device(index))

    def memory(self, index: int) -> int:
        """Bytes of a GPU's memory."""
        size = ctypes.c_size_t()
        self._call("cuDeviceTotalMem_v2", ctypes.byref(size), self._device(index))
        return size.value

    def uuid(self, index: int) -> uuid.UUID:
        """Number of a GPU, or of the part of it that is granted."""
        raw = (ctypes.c_ubyte * _UUID_BYTES)()
        self._call("cuDeviceGetUuid_v2", ctypes.byref(raw), self._device(index))
        return uuid.UUID(bytes=bytes(raw))

    def _device(self, index: int) -> int:
        return self._number("cuDeviceGet", index)

    def _number(self, function: str, *arguments: int) -> int:
        found = ctypes.c_int()
        self._call(function, ctypes.byref(found), *arguments)
        return found.value

    def _call(self, function: str, *arguments: Any) -> None:
        called = getattr(self._library, function, None)
        code = 500 if called is None else int(called(*arguments))  # CUDA_ERROR_NOT_FOUND
        if code:
            raise CudaError(code)


def driver() -> Driver | None:
    """NVIDIA's driver; None where there is none."""
    try:
        cuda = _cuda()
        version = cuda.version()
    except (OSError, CudaError):
        return None
    return Driver(_kernel_module() or _nvml_version(), (version // 1000, version % 1000 // 10))


def gpus() -> tuple[Gpu, ...]:
    """The GPUs that this process may use, by CUDA's own numbers; empty where `why_none` has a reason."""
    try:
        return _granted(_cuda())
    except (OSError, CudaError):
        return ()


def why_none() -> str | None:
    """Why there is no GPU, with what to do; None where there is one."""
    try:
        cuda = _cuda()
    except OSError as error:
        return _no_library(str(error))
    granted: tuple[Gpu, ...] = ()
    try:
        granted = _granted(cuda)
    except CudaError as error:
        if error.code != 100:  # CUDA_ERROR_NO_DEVICE
            return f"The NVIDIA driver does not answer: {error}."
    return None if granted else _nothing_granted()


def _no_library(error: str) -> str:
    version = _kernel_module()
    if version:
        return (
            f"NVIDIA driver {version} runs on this machine, but its library is not to be found ({error}). "
            "In a container: start it with --gpus all and the NVIDIA Container Toolkit. Else install the driver again."
        )
    return (
        f"No NVIDIA driver was found ({error}). It comes with the system, not with pip; "
        "in a container, start it with --gpus all and the NVIDIA Container Toolkit."
    )


def _nothing_granted() -> str:
    """No GPU though there is a driver: the one variable that hides them, or nothing that we can name."""
    # CUDA reads this variable, not we: it is named so that whoever set it recognises it.
    hiding, present = os.environ.get("CUDA_VISIBLE_DEVICES"), _nvml_count()
    there = "" if present is None else f" of the {present} that are there"
    if hiding is not None:
        return (
            f'CUDA_VISIBLE_DEVICES="{hiding}" leaves this process no GPU{there}: '
            "unset it, or set it to the numbers of those that it may use."
        )
    return f"The NVIDIA driver grants this process no GPU{there}: nvidia-smi lists those that it sees."


def _granted(cuda: Cuda) -> tuple[Gpu, ...]:
    cuda.init()
    return tuple(_gpu(cuda, index) for index in range(cuda.count()))


def _gpu(cuda: Cuda, index: int) -> Gpu:
    name, (free, found) = cuda.name(index), _free(cuda.uuid(index))
    capability = cuda.attribute(index, _MAJOR), cuda.attribute(index, _MINOR)
    l2, processors = cuda.attribute(index, _L2), cuda.attribute(index, _PROCESSORS)
    return Gpu(index, name, capability, cuda.memory(index), free, l2, processors, found)


def _cuda() -> Cuda:
    return Cuda(ctypes.CDLL(_LIBRARY))


def _kernel_module(root: Path = Path("/")) -> str:
    """Version of the driver's kernel module; empty where the kernel does not tell."""
    try:
        text = (root / "proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(r"Kernel Module(?: for \S+)?\s+([\d.]+)", text)
    return found[1] if found else ""


@contextmanager
def _nvml() -> Iterator[Any]:
    """NVML, ready. Raises what nvidia-ml-py raises, or ImportError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = importlib.import_module("pynvml")
    library.nvmlInit()
    try:
        yield library
    finally:
        library.nvmlShutdown()


def _nvml_version() -> str:
    with contextlib.suppress(Exception), _nvml() as nvml:  # its errors share no base with those of its loading
        return str(nvml.nvmlSystemGetDriverVersion())
    return ""


def _nvml_count() -> int | None:
    """GPUs of the machine, whatever ``CUDA_VISIBLE_DEVICES`` says."""
    with contextlib.suppress(Exception), _nvml() as nvml:
        return int(nvml.nvmlDeviceGetCount())
    return None


def _free(number: uuid.UUID) -> tuple[int | None, str]:
    """Bytes of a GPU that are free, and its number as NVML writes it."""
    for name in (f"GPU-{number}", f"MIG-{number}"):
        with contextlib.suppress(Exception), _nvml() as nvml:
            return int(nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByUUID(name)).free), name
    return None, f"GPU-{number}"


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
