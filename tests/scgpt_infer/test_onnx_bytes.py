"""ONNX files written by hand say what the onnx package reads."""

import numpy as np
import onnx
import pytest

from scgpt_infer.onnx_bytes import ELEMENTS, attribute, model, node, tensor, value
from scgpt_runtime.external import external_locations


@pytest.mark.parametrize("element", [name for name in ELEMENTS if name != "bfloat16"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 200)])
def test_an_array_is_read_back(element, shape):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(element)
    told = onnx.TensorProto.FromString(tensor("w", array))
    found = onnx.numpy_helper.to_array(told)
    assert (told.name, found.dtype) == ("w", array.dtype)
    np.testing.assert_array_equal(found, array)


def test_numbers_of_elements_are_those_of_onnx():
    names = {name: "FLOAT" if name == "float32" else name.upper() for name in ELEMENTS}
    assert {name: onnx.TensorProto.DataType.Value(names[name]) for name in ELEMENTS} == ELEMENTS


@pytest.mark.parametrize("held", [-1, 0, 300, [1, -2, 300], np.array([2.5], np.float32)])
def test_an_attribute_is_read_back(held):
    found = onnx.helper.get_attribute_value(onnx.AttributeProto.FromString(attribute("a", held)))
    if isinstance(held, np.ndarray):
        found = onnx.numpy_helper.to_array(found)
    np.testing.assert_array_equal(found, held)


def test_a_model_is_one_to_the_checker_and_refers_to_no_file():
    weight = np.arange(12, dtype=np.float32).reshape(3, 4)
    nodes = [node("Gemm", ["x", "w"], "y", attribute("transB", 1))]
    whole = model(
        "products",
        nodes,
        [value("x", "float32", ["rows", 4])],
        [value("y", "float32", ["rows", 3])],
        [tensor("w", weight)],
    )
    read = onnx.load_from_string(whole)
    onnx.checker.check_model(read, full_check=True)
    assert [axis.dim_param or axis.dim_value for axis in read.graph.input[0].type.tensor_type.shape.dim] == ["rows", 4]
    assert external_locations(whole) == set()
