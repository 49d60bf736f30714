"""Graphs of matrix products, written byte by byte."""

import numpy as np
import onnx
import pytest

from scgpt_infer.bench.gemm_graph import KINDS, graph_bytes
from scgpt_runtime.providers import onnxruntime


@pytest.mark.parametrize("precision", KINDS)
@pytest.mark.parametrize("width", [8, 200])  # lengths of one and of two bytes
def test_onnx_accepts_the_bytes(precision, width):
    model = onnx.load_from_string(graph_bytes(precision, width, 1))
    onnx.checker.check_model(model, full_check=True)
    made = ["ConstantOfShape", "Cast"] if precision == "bf16" else ["ConstantOfShape"]
    assert [node.op_type for node in model.graph.node] == [*made, KINDS[precision].operator]


@pytest.mark.parametrize(("precision", "depth"), [("fp32", 1), ("fp32", 3), ("fp16", 2), ("int8", 1)])
def test_the_graph_multiplies(precision, depth):
    width = 16
    dtype = {"fp32": np.float32, "fp16": np.float16, "int8": np.uint8}[precision]
    weight = 1 if precision == "int8" else 2.0**-7
    left = np.random.default_rng(0).integers(0, 9, (5, width)).astype(dtype)
    session = onnxruntime().InferenceSession(graph_bytes(precision, width, depth), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": left})
    expected = left.astype(np.float64)
    for _ in range(depth):
        expected = expected @ np.full((width, width), weight)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_a_graph_is_small_whatever_its_width():
    assert len(graph_bytes("fp32", 4096, 16)) < 2048
