"""TensorRT as ONNX Runtime's provider: which engine answers which lengths, and how ONNX Runtime is asked for it.

In: lengths, inputs of a graph, a GPU. Out: buckets of lengths, provider options, all that an engine depends on. It
opens no graph. Written to the documentation: TensorRT 10 could not be had when this was written, so none of it has run
on a GPU (docs/gpu.md).
"""

import ctypes
from dataclasses import asdict, dataclass
from typing import Any

from scgpt_runtime.batching import BATCH_TOKENS, LENGTH_STEP
from scgpt_runtime.engine_cache import EnginePlace
from scgpt_runtime.errors import InternalError, ProviderError
from scgpt_runtime.gpus import Gpu
from scgpt_runtime.records import TensorSpec

__all__ = ["LIBRARY", "Bucket", "bucket_for", "library_version", "machine_facts", "provider_options"]

LIBRARY = "libnvinfer.so.10"
"""What ONNX Runtime's TensorRT provider is linked to, in the builds for CUDA 12 (1.26.0) and CUDA 13 (1.31.1)."""

_NARROW, _WIDE, _WIDE_FROM = 256, 512, 768


@dataclass(frozen=True, slots=True)
class Bucket:
    """What one engine answers: ONNX Runtime's options hold one range of shapes for each input.

    Attributes
    ----------
    shortest, longest
        Tokens of a cell, padding included.
    cells
        Most cells at a time.
    usual
        Cells of a full batch of the longest: the shape that kernels are chosen for.
    """

    shortest: int
    longest: int
    cells: int
    usual: int


def bucket_for(length: int, longest: int) -> Bucket:
    """The bucket of a length.

    Parameters
    ----------
    length
        Tokens of each cell of a batch, padding included.
    longest
        Most tokens that a cell is expected to have. Longer ones get buckets of their own.

    Returns
    -------
    Bucket
        Its shapes depend on these two alone, not on the budget in force, so that no option makes engines anew.
    """
    step, budget = LENGTH_STEP["tensorrt"], BATCH_TOKENS["tensorrt"]
    top = -(-longest // step) * step
    shortest, last = 1, _NARROW
    while last < length:
        shortest, last = last + 1, last + (_NARROW if last < _WIDE_FROM else _WIDE)
    if length <= top < last:
        last = top
    # A batch of the shortest cells may be twice the budget when it is padded to the longest, and no more: an engine
    # reserves memory for its largest shape.
    cells = max(1, min(budget // shortest, 2 * budget // last))
    return Bucket(shortest, last, cells, max(1, budget // last))


def provider_options(
    device: int, precision: str, inputs: tuple[TensorSpec, ...], bucket: Bucket, place: EnginePlace | None
) -> dict[str, str]:
    """Options of ONNX Runtime's TensorRT provider. Since some are given, it reads none from the environment.

    Parameters
    ----------
    device
        The GPU, by CUDA's number.
    precision
        ``fp32`` or ``fp16``: that of the graph. Without its flag TensorRT refuses fp16 layers in a network that is
        not strongly typed, which is what ONNX Runtime makes for fp16 (1.26) or always (1.31).
    inputs
        Inputs of the graph.
    bucket
        Shapes that the engine is for.
    place
        Where the engine is kept; None: nowhere.
    """
    half, kept = str(precision == "fp16"), str(place is not None)
    told = {
        "device_id": str(device),
        "trt_fp16_enable": half,
        "trt_layer_norm_fp32_fallback": half,
        "trt_profile_min_shapes": _profile(inputs, 1, bucket.shortest),
        "trt_profile_opt_shapes": _profile(inputs, bucket.usual, bucket.longest),
        "trt_profile_max_shapes": _profile(inputs, bucket.cells, bucket.longest),
        "trt_engine_cache_enable": kept,
        "trt_timing_cache_enable": kept,
    }
    if place is not None:
        told |= {"trt_engine_cache_path": str(place.engine), "trt_timing_cache_path": str(place.timings)}
    return told


def machine_facts(gpu: Gpu, onnxruntime_version: str, tensorrt_version: str) -> dict[str, Any]:
    """What an engine depends on beside the graph: it fits no other GPU and no other version.

    Memory and processors count too: an engine that was made with more of them may not load with less.
    """
    known = asdict(gpu)
    facts = {name: known[name] for name in ("name", "capability", "memory", "processors")}
    return {"gpu": facts, "onnxruntime": onnxruntime_version, "tensorrt": tensorrt_version}


def library_version() -> str:
    """Version of the TensorRT that the provider will use, such as ``10.9.0``; it is loaded.

    Raises
    ------
    ProviderError
        It is not there.
    """
    try:
        number = int(ctypes.CDLL(LIBRARY).getInferLibVersion())
    except (OSError, AttributeError) as error:
        raise ProviderError(
            f"Provider tensorrt needs TensorRT 10, but {LIBRARY} cannot be loaded ({error}). The Python package index "
            "offers TensorRT 11, which this ONNX Runtime does not take: get TensorRT 10 from NVIDIA and put its folder "
            "into LD_LIBRARY_PATH, or take --provider cuda."
        ) from error
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def _profile(inputs: tuple[TensorSpec, ...], cells: int, tokens: int) -> str:
    """Shapes of all inputs as TensorRT's options spell them."""
    sizes = {"cells": cells, "tokens": tokens}
    try:
        shapes = {spec.name: [sizes[axis] if isinstance(axis, str) else axis for axis in spec.shape] for spec in inputs}
    except KeyError as error:
        raise InternalError(f"A graph for TensorRT has an axis that no profile knows: {error}.") from error
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())
