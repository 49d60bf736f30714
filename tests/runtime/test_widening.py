import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import toy_bundle as toy
from scgpt_infer import demo
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.errors import BundleError
from scgpt_runtime.manifest import TensorSpec
from scgpt_runtime.widening import widened


def test_unsigned_inputs_become_int32_and_all_else_stays():
    model = toy.model().SerializeToString()
    wide, before, after = widened(model)
    laid = ("cells", "tokens")
    lengths = TensorSpec("lengths", "int32", ("cells",))
    assert before == (TensorSpec("ids", "uint16", laid), TensorSpec("values", "uint8", laid), lengths)
    assert after == (TensorSpec("ids", "int32", laid), TensorSpec("values", "int32", laid), lengths)
    expected = toy.model()
    for value in expected.graph.input:
        value.type.tensor_type.elem_type = TensorProto.INT32
    assert onnx.load_from_string(wide) == expected


def test_float_values_stay_float():
    value = helper.make_tensor_value_info("values", TensorProto.FLOAT, ["cells", 7])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["cells", 7])
    graph = helper.make_graph([helper.make_node("Relu", ["values"], ["out"])], "g", [value], [out])
    model = helper.make_model(graph).SerializeToString()
    wide, before, after = widened(model)
    assert wide == model
    assert before == after == (TensorSpec("values", "float32", ("cells", 7)),)


@pytest.mark.parametrize("broken", [b"no graph", b"\x3a\x05", b"\x3a\x06\x5a\x04\x0a\x02ab"])
def test_what_is_no_graph_is_refused(broken):
    with pytest.raises(BundleError, match="not an ONNX file"):
        widened(broken)


@pytest.mark.parametrize("task", ["embed", "tokens"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_demo_answers_the_same_with_wide_inputs_and_its_own_weights(task, precision):
    bundle = Bundle.open(demo.BUNDLE)
    path = bundle.file(bundle.graph(task, precision).path)
    draw = np.random.default_rng(1)
    narrow = {
        "ids": draw.integers(1, 3000, (3, 11), np.uint16),
        "values": draw.integers(1, 51, (3, 11), np.uint8),
        "lengths": np.array([11, 7, 2], np.int32),
    }
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    wide, _, inputs = widened(path.read_bytes())
    opened = onnxruntime.InferenceSession(wide, options, providers=["CPUExecutionProvider"])
    expected = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, narrow)
    answers = opened.run(None, {spec.name: narrow[spec.name].astype(spec.dtype) for spec in inputs})
    for found, wanted in zip(answers, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
