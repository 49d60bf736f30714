"""What CUDA, ONNX Runtime and TensorRT say when they fail -> what it means, and the error that tells a user.

In: the text of an exception; its type says nothing, since ONNX Runtime raises its own errors from one call and
RuntimeError from another. Out: `Failure`, or an error of our tree. It touches no device.

| said                                                                      | means                                |
|---------------------------------------------------------------------------|--------------------------------------|
| CUDA failure 2 (out of memory), CUBLAS and CUDNN ALLOC_FAILED, "Failed to | MEMORY: a smaller batch may do       |
| allocate memory", "Available memory of A is smaller than requested bytes" |                                      |
| CUBLAS and CUDNN STATUS_NOT_INITIALIZED: no room for what they start with | MEMORY, most often                   |
| CUDA failure 46, 214, 220, 700, 702, 709, 710, 714 to 719, 999            | LOST: every later call fails as well |
| CUDA failure 3: most often in a process forked from one that used CUDA    | INSTALLATION: driver, build, GPU,    |
| CUDA failure 35, 36, 100, 101, 209, 803, 804                              | or how the process was started       |
| CUDA failure 900 to 908                                                   | CAPTURE: a graph is recorded, and    |
|                                                                           | fails, or is in the way of others    |
| anything else                                                             | OTHER: only we can have caused it    |

The numbers are those of cudaError_t (CUDA 13 toolkit, driver_types.h); the texts are ONNX Runtime's
(core/providers/cuda/cuda_call.cc, core/framework/bfc_arena.cc).
"""

import re
from enum import Enum

from scgpt_runtime.errors import DeviceError, DeviceLostError, DeviceMemoryError, ProviderError

__all__ = ["Failure", "device_lost", "meaning", "memory_ran_out", "not_set_up", "recorded_elsewhere", "told"]


class Failure(Enum):
    """What a failure means for whoever runs a batch."""

    MEMORY = "memory"
    LOST = "lost"
    INSTALLATION = "installation"
    CAPTURE = "capture"
    OTHER = "other"


_CODES = {
    2: Failure.MEMORY,
    **dict.fromkeys((46, 214, 220, 700, 702, 709, 710, *range(714, 720), 999), Failure.LOST),
    **dict.fromkeys((3, 35, 36, 100, 101, 209, 803, 804), Failure.INSTALLATION),
    **dict.fromkeys(range(900, 909), Failure.CAPTURE),
}
_CODE = re.compile(r"\bCUDA (?:failure|error) (\d+)")

_TEXTS = (
    (
        Failure.LOST,
        r"illegal memory access|unspecified launch failure|launch timed out|device-side assert|uncorrectable"
        r"|all CUDA-capable devices are busy or unavailable|CUDA-capable device\(s\) is/are busy or unavailable"
        r"|misaligned address|illegal instruction|context is destroyed",
    ),
    (Failure.CAPTURE, r"when stream is capturing|during capture|stream capture"),
    (
        Failure.INSTALLATION,
        r"initialization error|no kernel image is available|driver version is insufficient|no CUDA-capable device"
        r"|unsupported display driver",
    ),
    (
        Failure.MEMORY,
        r"out of memory|OutOfMemory|ALLOC_FAILED|Failed to allocate memory|smaller than requested bytes|bad_alloc"
        r"|could not be allocated|(?:CUBLAS|CUBLASLT|CUDNN)_STATUS_NOT_INITIALIZED",
    ),
)


def meaning(said: str) -> Failure:
    """What the text of an exception means; the number of a CUDA error decides where there is one."""
    for code in _CODE.findall(said):
        if (found := _CODES.get(int(code))) is not None:
            return found
    for failure, pattern in _TEXTS:
        if re.search(pattern, said, re.IGNORECASE):
            return failure
    return Failure.OTHER


def told(said: str) -> str:
    """The part of a message that a user may want to read: what comes before places in source files."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    first = re.split(r" ?; GPU=| ; file=", lines[0])[0] if lines else "no reason given"
    return first[:400].rstrip(" .;")


def memory_ran_out(device: str, what: str, said: str) -> DeviceMemoryError:
    """The error for a batch, or a graph, that does not fit.

    Parameters
    ----------
    device
        For people, such as ``GPU 0 (NVIDIA H100 80GB HBM3)``.
    what
        What did not fit, such as ``one batch (ids (64, 256) uint16)``.
    said
        Text of the exception.
    """
    unsure = " If it has room by `nvidia-smi`, its libraries do not fit together: `scgpt-infer doctor` says more."
    return DeviceMemoryError(
        f"Memory of {device} ran out for {what}: {told(said)}. "
        "Try a smaller --batch-tokens, --max-length or --instances." + (unsure if "NOT_INITIALIZED" in said else "")
    )


def device_lost(device: str, said: str) -> DeviceLostError:
    """The error for a GPU that this process cannot use any more."""
    return DeviceLostError(
        f"{device} stopped working: {told(said)}. This process cannot use it again: start a new one. If it comes "
        "again, `dmesg` and `nvidia-smi -q` may name a fault of the hardware (Xid, ECC)."
    )


def recorded_elsewhere(device: str, said: str) -> DeviceError:
    """The error for a GPU that CUDA keeps from us, because others record a graph in this process."""
    return DeviceError(
        f"{device} could not be used: {told(said)}. Another part of this process records a CUDA graph in global mode, "
        "while which CUDA forbids most of what others do. Run scgpt-infer in a process of its own."
    )


def not_set_up(device: str, said: str) -> ProviderError:
    """The error for a GPU that never worked."""
    if re.search(r"\bCUDA (?:failure|error) 3\b|initialization error", said, re.IGNORECASE):
        return ProviderError(
            f"{device} cannot be used: {told(said)}. CUDA does not start in a process that was forked from one that "
            "had used it: start workers afresh, by multiprocessing.set_start_method('spawn'). If this one was not "
            "forked, `scgpt-infer doctor` says what else is wrong."
        )
    return ProviderError(
        f"{device} cannot be used: {told(said)}. Driver, GPU and the installed onnxruntime-gpu do not fit together: "
        "`scgpt-infer doctor` says how to mend it, and --provider cpu runs without."
    )
