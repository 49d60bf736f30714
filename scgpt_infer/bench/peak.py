"""How fast this machine multiplies matrices at best: what a model's speed is held against.

In: a provider and precisions. Out: operations per second of the fastest of several shapes. Products follow each other
in one graph, so that turning inputs into the precision counts for little.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from scgpt_infer.bench.gemm_graph import KINDS, graph_bytes
from scgpt_infer.bench.result import Peak
from scgpt_runtime.providers import onnxruntime, openvino_computes, openvino_core

__all__ = ["Shape", "best_of", "measure_peaks"]

_Run = Callable[[], Any]
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
_WIDER = {
    "fp32": ("fp32",),
    "fp16": ("fp16", "fp32"),
    "bf16": ("bf16", "fp32"),
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


def measure_peaks(provider: str, precisions: tuple[str, ...], threads: int, seconds: float) -> dict[str, float]:
    """The best rate of a provider at each precision that it computes.

    Parameters
    ----------
    provider
        ``cpu`` or ``openvino``.
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
    """
    computed = tuple(KINDS) if provider == "cpu" else openvino_computes()
    found = {}
    for precision in (name for name in precisions if name in computed):
        rates = []
        for shape in _SHAPES:
            if provider == "cpu" and precision == "int8":  # its products do not chain
                shape = Shape(shape.rows, shape.width, 1)
            run = _onnxruntime(shape, precision, threads) if provider == "cpu" else _openvino(shape, precision, threads)
            rates.append(shape.operations / _fastest(run, seconds))
        found[precision] = max(rates)
    return found


def best_of(precision: str, found: Mapping[tuple[str, str], float]) -> Peak | None:
    """The peak to hold a precision against: the best of all providers at it or at a wider one.

    Parameters
    ----------
    precision
        Precision of a combination.
    found
        (provider, precision) to operations per second.
    """
    fitting = {key: rate for key, rate in found.items() if key[1] in _WIDER[precision]}
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
