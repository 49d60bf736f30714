"""Which graphs suit a GPU: the table of precisions and attention routes by compute capability and library versions.

In: numbers. Out: dialects in the order of expectation. It asks no machine; what a measurement says of the order is
not its business.
"""

from dataclasses import dataclass

from scgpt_runtime.manifest import CUDA_DIALECTS

__all__ = ["GPU_PRECISIONS", "CudaVersions", "dialects"]

GPU_PRECISIONS = {"cuda": ("fp16", "bf16", "fp32"), "tensorrt": ("fp16", "fp32")}
"""Provider to the precisions that it computes, the one to expect most of first."""

_FLASH = (8, 0)
"""Compute capability from which flash attention and bf16 products exist (contrib_ops/cuda/bert/flash_attention)."""

_COUNTED = (1, 31)
"""First ONNX Runtime whose CUDA provider is known to run attention over padded cells, ``cuda-lengths`` and
``cuda-flash``. In 1.26 the one gives cuDNN lengths for the keys alone, which it refuses, and the other has no kernel
for the Cast of opset 24. The releases between were not read; one that could would only be passed over."""

_CUDNN_ATTENTION = (9, 3, 0)
_CUDNN_BROKEN = ((9, 10, 0), (9, 10, 1))
"""cuDNN versions that ONNX Runtime asks for, and refuses, before it takes cuDNN's attention."""


@dataclass(frozen=True, slots=True)
class CudaVersions:
    """What the routes of CUDA depend on: versions of ONNX Runtime (major, minor) and of cuDNN, None where unknown."""

    onnxruntime: tuple[int, int]
    cudnn: tuple[int, int, int] | None = None


def dialects(provider: str, precision: str, capability: tuple[int, int], versions: CudaVersions) -> tuple[str, ...]:
    """Dialects that can run on a GPU, the one to expect most of first; ``portable`` last, where it is no worse choice.

    Parameters
    ----------
    provider
        ``cuda`` or ``tensorrt``.
    precision
        One of `GPU_PRECISIONS`; others give nothing.
    capability
        Compute capability; of several GPUs, the lowest.
    versions
        What is installed.
    """
    if precision not in GPU_PRECISIONS[provider] or (precision == "bf16" and capability < _FLASH):
        return ()
    if provider == "tensorrt" or precision == "fp32":
        return ("portable",)
    routes = [route for route in CUDA_DIALECTS if _runs(route, precision, capability, versions)]
    return (*routes, "portable")


def _runs(route: str, precision: str, capability: tuple[int, int], versions: CudaVersions) -> bool:
    if route == "cuda-exact":  # without a mask every attention kernel does
        return True
    if capability < _FLASH:  # the others would fall to attention that writes all scores
        return False
    if route == "cuda-packed":
        return precision == "fp16"
    if versions.onnxruntime < _COUNTED:
        return False
    found = versions.cudnn
    cudnn = found is not None and found >= _CUDNN_ATTENTION and found not in _CUDNN_BROKEN
    return cudnn or route != "cuda-lengths"
