"""How fast this machine multiplies matrices at best: what a model's speed is held against.

In: a provider and precisions. Out: operations per second of the fastest of several shapes. Products follow each other
in one graph, so that turning inputs into the precision counts for little.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from scgpt_infer.bench.gemm_graph import graph_bytes
from scgpt_infer.bench.result import Peak
from scgpt_runtime.errors import ProviderError
from scgpt_runtime.providers import ON_GPU, ONNXRUNTIME_NAMES, obstacle, onnxruntime, openvino_computes, openvino_core

__all__ = ["Shape", "best_of", "measure_peaks"]

_Run = Callable[[], Any]
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
_WIDER = {
    "fp32": ("fp32",),
    "fp16": ("fp16", "fp32"),
    "bf16": ("bf16", "fp16", "fp32"),
    "int8": ("int8", "bf16", "fp16", "fp32"),
}
"""Precision to those whose products would serve it too: a share must not gain by a slow kernel."""


class Shape(NamedTuple):
    """(rows, width) times `depth` weights of (width, width), one after the other."""

    rows: int
    width: int
    depth: int

    @property
    def operations(self) -> int:
        """A multiplication and an addition count as two."""
        return 2 * self.rows * self.width * self.width * self.depth


_SHAPES = (Shape(1024, 512, 16), Shape(2048, 1024, 8), Shape(4096, 2048, 1))
"""A whole-human model's own width, then wider ones, which keep more cores busy."""

_GPU_SHAPES = (Shape(65536, 512, 16), Shape(16384, 2048, 8), Shape(8192, 8192, 2))
"""The same for a GPU, so large that the launch of a product counts for little."""

_COMPUTES = {"cpu": ("fp32", "fp16", "int8"), "cuda": ("fp32", "fp16", "bf16")}
_BF16 = 16  # ONNX's number of the type, which numpy does not have


def measure_peaks(provider: str, precisions: tuple[str, ...], threads: int, seconds: float) -> dict[str, float]:
    """The best rate of a provider at each precision that it computes.

    Parameters
    ----------
    provider
        ``cpu``, ``openvino`` or ``cuda``.
    precisions
        Those that are wanted.
    threads
        Cores in all.
    seconds
        For each shape and precision.

    Returns
    -------
    dict
        Precision to operations per second; without those that the provider has no products for.

    Raises
    ------
    ProviderError
        The provider cannot run here.
    """
    if provider in ON_GPU and (problem := obstacle(provider)):  # it loads what the provider needs, too
        raise ProviderError(problem)
    computed = openvino_computes() if provider == "openvino" else _COMPUTES[provider]
    found = {}
    for precision in (name for name in precisions if name in computed):
        rates = []
        for shape in _GPU_SHAPES if provider in ON_GPU else _SHAPES:
            if provider == "cpu" and precision == "int8":  # its products do not chain
                shape = Shape(shape.rows, shape.width, 1)
            run = _products(provider, shape, precision, threads)
            rates.append(shape.operations / _fastest(run, seconds))
        found[precision] = max(rates)
    return found


def best_of(on_gpu: bool, precision: str, found: Mapping[tuple[str, str], float]) -> Peak | None:
    """The peak to hold a precision against: the best of all providers of a chip at it or at a wider one.

    Parameters
    ----------
    on_gpu
        Whether a combination runs on the GPU; else on the processor.
    precision
        Its precision.
    found
        (provider, precision) to operations per second.
    """
    of_chip = {key: rate for key, rate in found.items() if (key[0] in ON_GPU) == on_gpu}
    fitting = {key: rate for key, rate in of_chip.items() if key[1] in _WIDER[precision]}
    if not fitting:
        return None
    provider, computed = max(fitting, key=lambda key: fitting[key])
    return Peak(precision, fitting[provider, computed] / 1e12, f"{provider} {computed}")


def _fastest(run: _Run, seconds: float) -> float:
    """Seconds of the fastest run, after two to warm up."""
    run()
    run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def _products(provider: str, shape: Shape, precision: str, threads: int) -> _Run:
    if provider == "openvino":
        return _openvino(shape, precision, threads)
    return _on_device(provider, shape, precision) if provider in ON_GPU else _onnxruntime(shape, precision, threads)


def _on_device(provider: str, shape: Shape, precision: str) -> _Run:
    """Products whose matrices lie on the device. Their constant weights cost a GPU less power than a model's, so what
    comes out is rather too high than too low, and a share of it rather too low.
    """
    runtime, name = onnxruntime(), ONNXRUNTIME_NAMES[provider]
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    settings = {"use_tf32": "0"} if provider in ON_GPU else {}
    model = graph_bytes(precision, shape.width, shape.depth)
    try:  # without the last word it prints, and goes on with the processor
        session = runtime.InferenceSession(model, options, [(name, settings)], enable_fallback=0)
    except Exception as error:  # its exceptions share no base class of their own
        raise ProviderError(f"ONNX Runtime cannot open matrix products with provider {provider}: {error}") from error
    if name not in session.get_providers():
        raise ProviderError(f"ONNX Runtime opened matrix products with {', '.join(session.get_providers())}.")
    left = np.random.default_rng(0).standard_normal((shape.rows, shape.width), np.float32)
    if precision == "bf16":
        bits = np.ascontiguousarray(left.view(np.uint16)[:, 1::2])  # the upper half of each float32
        value = runtime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, _BF16)
    else:
        value = runtime.OrtValue.ortvalue_from_numpy(left.astype({"fp32": np.float32, "fp16": np.float16}[precision]))
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", value)  # copied to the device now
    binding.bind_output("y", provider)

    def run() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return run


def _onnxruntime(shape: Shape, precision: str, threads: int) -> _Run:
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    model = graph_bytes(precision, shape.width, shape.depth)
    session = runtime.InferenceSession(model, sess_options=options, providers=["CPUExecutionProvider"])
    dtype = {"fp32": np.float32, "fp16": np.float16, "int8": np.uint8}[precision]
    left = np.random.default_rng(0).integers(0, 100, (shape.rows, shape.width)).astype(dtype)
    return lambda: session.run(None, {"x": left})


def _openvino(shape: Shape, precision: str, threads: int) -> _Run:
    core = openvino_core()  # first: it says what to install
    settings = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    request = core.compile_model(_openvino_products(shape, precision), "CPU", settings).create_infer_request()
    left = np.random.default_rng(0).standard_normal((shape.rows, shape.width)).astype(np.float32)
    return lambda: request.infer({0: left}, share_inputs=True, share_outputs=True)


def _openvino_products(shape: Shape, precision: str) -> Any:
    import openvino
    from openvino import opset13 as operators

    random, width = np.random.default_rng(0), shape.width
    left = operators.parameter([-1, width], np.float32)
    answer = left
    for _ in range(shape.depth):
        weight = random.standard_normal((width, width)).astype(np.float32) / width**0.5
        if precision == "int8":  # the form of a quantised layer, which OpenVINO turns into a product of bytes
            bounds = [np.float32(-4), np.float32(4)] * 2
            answer = operators.fake_quantize(answer, *bounds, 256)
            whole = operators.convert(operators.constant((weight * 30).astype(np.int8)), np.float32)
            answer = operators.matmul(answer, operators.multiply(whole, np.float32(1 / 30)), False, True)
        else:
            answer = operators.matmul(answer, operators.constant(weight), False, True)
    return openvino.Model([operators.reduce_mean(answer, np.array([1]), False)], [left])
