"""Memory that a graph reads and writes by address, and the copies to and from it: a GPU's, or this machine's own.

In: sizes and addresses. Out: addresses, and views of staging memory. `HostMemory` lets the very code that drives a GPU
run on a processor. It knows neither graphs nor batches.
"""

import ctypes
import importlib
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.errors import MissingDependencyError

__all__ = ["CudaCallError", "CudaMemory", "DeviceMemory", "HostMemory"]

Bytes = NDArray[np.uint8]


class DeviceMemory(Protocol):
    """Memory of one device, with one stream. Used from one thread alone."""

    @property
    def kind(self) -> str:
        """What ONNX Runtime's IO binding calls the device: ``cuda`` or ``cpu``."""

    @property
    def device(self) -> int:
        """The device's number."""

    def start(self) -> None:
        """Make the device that of the calling thread, and a new stream on it; one from before is left alone."""

    @property
    def stream(self) -> int:
        """Address of the stream, 0 where there is none."""

    def staging(self, size: int) -> Bytes:
        """Memory of the host from which and to which the device copies by itself."""

    def free_staging(self, staging: Bytes) -> None:
        """Give staging memory back; nobody may look at it any more."""

    def take(self, size: int) -> int:
        """Address of memory on the device, aligned to 256 bytes."""

    def give_back(self, address: int) -> None:
        """Give memory of the device back."""

    def copy_in(self, address: int, staging: Bytes) -> None:
        """Queue a copy to the device behind what the stream does."""

    def copy_out(self, staging: Bytes, address: int) -> None:
        """Queue a copy from the device behind what the stream does."""

    def wait(self) -> None:
        """Wait until the stream has done all that it was given."""

    def end(self) -> None:
        """Let go of the stream."""


class CudaCallError(RuntimeError):
    """A function of CUDA answered with a code other than success; the text is as ONNX Runtime writes its own."""


class CudaMemory:
    """A GPU's memory, by NVIDIA's own package for Python.

    Parameters
    ----------
    device
        The GPU by CUDA's number.
    runtime
        The module ``cuda.bindings.runtime``, or what stands for it in a test.

    Raises
    ------
    MissingDependencyError
        The package is not installed.
    """

    kind = "cuda"

    def __init__(self, device: int, runtime: Any = None) -> None:
        self.device = device
        self._cuda: Any = runtime or _bindings()
        self._stream: Any = None

    def start(self) -> None:
        """Make the GPU that of the calling thread, and a new stream on it that waits for no other."""
        self._call("cudaSetDevice", self.device)
        self._stream = self._call("cudaStreamCreateWithFlags", self._cuda.cudaStreamNonBlocking)

    @property
    def stream(self) -> int:
        """Address of the stream."""
        return 0 if self._stream is None else int(self._stream)

    def staging(self, size: int) -> Bytes:
        """Pinned memory: the GPU copies it while the host does something else."""
        address = self._call("cudaHostAlloc", size, self._cuda.cudaHostAllocDefault)
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def free_staging(self, staging: Bytes) -> None:
        """Give pinned memory back."""
        self._call("cudaFreeHost", staging.ctypes.data)

    def take(self, size: int) -> int:
        """Address of memory on the GPU; CUDA aligns all of it to 256 bytes or more."""
        return int(self._call("cudaMalloc", size))

    def give_back(self, address: int) -> None:
        """Free memory on the GPU; waits for whatever still works on it."""
        self._call("cudaFree", address)

    def copy_in(self, address: int, staging: Bytes) -> None:
        """Queue a copy to the GPU."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, staging.ctypes.data, staging.nbytes, kind, self._stream)

    def copy_out(self, staging: Bytes, address: int) -> None:
        """Queue a copy from the GPU."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", staging.ctypes.data, address, staging.nbytes, kind, self._stream)

    def wait(self) -> None:
        """Wait for the stream; an error of any work on the GPU is raised here at the latest."""
        self._call("cudaStreamSynchronize", self._stream)

    def end(self) -> None:
        """Destroy the stream."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            self._call("cudaStreamDestroy", stream)

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the CUDA runtime: it answers with a code, and with what it made."""
        code, *made = getattr(self._cuda, name)(*arguments)
        if int(code) != 0:
            _, text = self._cuda.cudaGetErrorString(code)
            said = text.decode() if isinstance(text, bytes) else str(text)
            raise CudaCallError(f"CUDA failure {int(code)}: {said} ; GPU={self.device} ; expr={name}")
        return made[0] if made else None


class HostMemory:
    """The machine's own memory, which a processor's provider reads and writes; a copy is done when it is queued."""

    kind = "cpu"
    stream = 0

    def __init__(self, device: int = 0) -> None:
        self.device = device
        self._taken: dict[int, Bytes] = {}

    def start(self) -> None:
        """Nothing to do."""

    def staging(self, size: int) -> Bytes:
        """Any memory will do."""
        return np.zeros(size, np.uint8)

    def free_staging(self, staging: Bytes) -> None:
        """Nothing to do."""

    def take(self, size: int) -> int:
        """Address of memory that is held until it is given back."""
        held = np.zeros(size + _ALIGNED, np.uint8)
        address = -(-held.ctypes.data // _ALIGNED) * _ALIGNED
        self._taken[address] = held
        return address

    def give_back(self, address: int) -> None:
        """Let go of it."""
        del self._taken[address]

    def copy_in(self, address: int, staging: Bytes) -> None:
        """Copy now."""
        ctypes.memmove(address, staging.ctypes.data, staging.nbytes)

    def copy_out(self, staging: Bytes, address: int) -> None:
        """Copy now."""
        ctypes.memmove(staging.ctypes.data, address, staging.nbytes)

    def wait(self) -> None:
        """Nothing to do."""

    def end(self) -> None:
        """Nothing to do."""


_ALIGNED = 256


def _bindings() -> Any:
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise MissingDependencyError(
            f"NVIDIA's package cuda-bindings cannot be imported ({error}), through which batches go to the GPU. "
            'Install it: pip install "scgpt-infer[gpu]", or "scgpt-infer[gpu-cu12]" for a driver of CUDA 12.'
        ) from error
