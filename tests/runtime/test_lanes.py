"""Lanes in trouble: what they keep, what they leave behind and what they tell. On the processor."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from scgpt_runtime import gpu_session
from scgpt_runtime.gpu_session import GpuSession
from scgpt_runtime.providers import ProviderChoice

CHOICE = ProviderChoice("cpu", "fp32", "fp32", "cuda-lengths", 1, 1, "")


def product_and_bias() -> bytes:
    """A graph that multiplies packed rows and adds a bias, as those for CUDA do."""
    ids = helper.make_tensor_value_info("ids", TensorProto.FLOAT, ["tokens", 8])
    cell = helper.make_tensor_value_info("cell", TensorProto.FLOAT, ["tokens", 4])
    weights = [("w", np.ones((8, 4), np.float32)), ("b", np.arange(4, dtype=np.float32))]
    nodes = [helper.make_node("MatMul", ["ids", "w"], ["xw"]), helper.make_node("Add", ["xw", "b"], ["cell"])]
    tensors = [numpy_helper.from_array(array, name) for name, array in weights]
    graph = helper.make_graph(nodes, "embed", [ids], [cell], tensors)
    opset = helper.make_opsetid("", 20)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


@pytest.mark.parametrize("dialect", ["cuda-packed", "portable"])
def test_a_product_and_its_bias_are_never_made_one(tmp_path, monkeypatch, dialect):
    (tmp_path / "x.onnx").write_bytes(product_and_bias())
    ran = tmp_path / "ran.onnx"

    def written_out(*arguments, sess_options, **options):
        sess_options.optimized_model_filepath = str(ran)
        return onnxruntime.InferenceSession(*arguments, sess_options=sess_options, **options)

    watched = SimpleNamespace(**vars(onnxruntime) | {"InferenceSession": written_out})
    monkeypatch.setattr(gpu_session, "onnxruntime", lambda: watched)
    session = GpuSession.open(tmp_path / "x.onnx", replace(CHOICE, dialect=dialect))
    try:
        answer = session.feed({"ids": np.ones((3, 8), np.float32)})["cell"]
    finally:
        session.close()
    np.testing.assert_array_equal(answer, np.tile(8 + np.arange(4, dtype=np.float32), (3, 1)))
    assert sorted(node.op_type for node in onnx.load(ran).graph.node) == ["Add", "MatMul"]
