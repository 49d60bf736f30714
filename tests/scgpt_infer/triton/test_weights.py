"""A graph taken out of its bundle: the same weights, from files that hold nothing else."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from scgpt_infer.triton.weights import copy_graph
from scgpt_runtime.errors import BundleError
from scgpt_runtime.records import GraphRecord, TensorSpec

SIZES = {"first": 700, "last": 1300, "again": 700}


def weight(name: str, size: int, offset: int | None):
    """A tensor of float32 that lies in ``all.bin``."""
    found = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[size], data_location=TensorProto.EXTERNAL)
    told = {"location": "all.bin", "length": str(4 * size)} | ({} if offset is None else {"offset": str(offset)})
    for key, value in told.items():
        entry = found.external_data.add()
        entry.key, entry.value = key, value
    return found


@pytest.fixture
def bundle(tmp_path):
    """A folder whose graph uses three stretches of a large file, one of them twice; and what each weight must be."""
    (tmp_path / "graphs").mkdir()
    content = np.arange(40_000, dtype=np.float32)
    content.tofile(tmp_path / "graphs/all.bin")
    offsets = {"first": 4096, "last": 131_072, "again": 4096}
    tensors = [weight(name, SIZES[name], offsets[name]) for name in SIZES]
    tensors.append(numpy_helper.from_array(np.ones(3, np.float32), "inside"))
    ids = helper.make_tensor_value_info("ids", TensorProto.UINT16, ["cells"])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["cells"])
    graph = helper.make_graph([helper.make_node("Cast", ["ids"], ["out"], to=1)], "g", [ids], [out], tensors)
    onnx.save(helper.make_model(graph), tmp_path / "graphs/g.onnx")
    expected = {name: content[start // 4 :][: SIZES[name]] for name, start in offsets.items()}
    return tmp_path, {**expected, "inside": np.ones(3, np.float32)}


def record(path: str = "graphs/g.onnx") -> GraphRecord:
    return GraphRecord("embed", "fp32", "portable", path, 17, (TensorSpec("ids", "uint16", ("cells",)),), ())


@pytest.mark.parametrize("int32", [False, True])
def test_weights_are_the_same_and_lie_once_each_at_a_page(bundle, tmp_path, int32):
    folder, expected = bundle
    (tmp_path / "out").mkdir()
    inputs = copy_graph(folder, record(), tmp_path / "out", int32=int32)
    assert [spec.dtype for spec in inputs] == ["int32" if int32 else "uint16"]
    model = onnx.load(tmp_path / "out/model.onnx")
    assert {one.name: numpy_helper.to_array(one).tolist() for one in model.graph.initializer} == {
        name: array.tolist() for name, array in expected.items()
    }
    assert (tmp_path / "out/all.bin").stat().st_size == 4096 + 4 * SIZES["last"]  # "first" in a page, then "last"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"model.onnx", "all.bin"}


def test_what_is_no_graph_is_refused(bundle, tmp_path):
    folder, _ = bundle
    (tmp_path / "out").mkdir()
    (folder / "graphs/g.onnx").write_bytes(b"\xff" * 40)
    with pytest.raises(BundleError, match="is not an ONNX file"):
        copy_graph(folder, record(), tmp_path / "out")
