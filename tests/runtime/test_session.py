import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper

import toy_bundle as toy
from scgpt_runtime.batching import BatchPlan, batches
from scgpt_runtime.errors import InternalError, ProviderError
from scgpt_runtime.providers import ProviderChoice
from scgpt_runtime.session import Session

CHOICE = ProviderChoice("cpu", "fp32", "fp32", "portable", 1, 2, "")


@pytest.fixture
def path(tmp_path):
    (tmp_path / "toy.onnx").write_bytes(toy.model().SerializeToString())
    return tmp_path / "toy.onnx"


def test_a_batch_is_answered_cell_by_cell(path):
    tokens = toy.tokens_of([5, 1, 0, 17, 17, 8])
    session = Session.open(path, CHOICE)
    for batch in batches(tokens, toy.SETTINGS, BatchPlan("padded", 40)):
        answers = session.run(batch)["cell"]
        assert answers.dtype == np.float32
        for row, cell in zip(answers, batch.cells, strict=True):
            np.testing.assert_allclose(row, toy.answer(tokens, cell), rtol=1e-6)


def test_the_graph_tells_its_inputs_and_outputs(path):
    session = Session.open(path, CHOICE)
    assert [(spec.name, spec.dtype, spec.shape) for spec in session.inputs] == [
        ("ids", "uint16", ("cells", "tokens")),
        ("values", "uint8", ("cells", "tokens")),
        ("lengths", "int32", ("cells",)),
    ]
    assert [(spec.name, spec.dtype, spec.shape) for spec in session.outputs] == [("cell", "float32", ("cells", 4))]
    assert session.provider.startswith("CPUExecutionProvider 1.")


def test_a_graph_that_this_onnxruntime_cannot_load_is_a_provider_error(tmp_path):
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Fancy", [], ["y"], domain="some.one")], "g", [], [out])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("some.one", 1)])
    (tmp_path / "odd.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(ProviderError, match=r"cannot open .*odd\.onnx"):
        Session.open(tmp_path / "odd.onnx", CHOICE)
    (tmp_path / "odd.onnx").write_bytes(b"no graph")
    with pytest.raises(ProviderError, match=r"odd\.onnx"):
        Session.open(tmp_path / "odd.onnx", CHOICE)


def test_a_provider_that_onnxruntime_drops_is_noticed(path):
    with pytest.raises(ProviderError, match="CPUExecutionProvider"):
        Session.open(path, replace(CHOICE, provider="cuda"))


def test_what_does_not_fit_the_graph_is_our_fault(path):
    session = Session.open(path, CHOICE)
    with pytest.raises(InternalError, match="bug in scgpt-infer"):
        session.feed({"ids": np.zeros((1, 2), np.int64)})


def test_a_closed_session_says_so(path):
    session = Session.open(path, CHOICE)
    session.close()
    with pytest.raises(InternalError, match="closed"):
        session.feed({})


def test_nothing_is_printed_when_a_session_opens_runs_or_fails(path):
    code = f"""
import numpy as np, pathlib
from scgpt_runtime.errors import InternalError, ProviderError
from scgpt_runtime.providers import ProviderChoice
from scgpt_runtime.session import Session
choice = ProviderChoice("cpu", "fp32", "fp32", "portable", 1, 1, "")
session = Session.open(pathlib.Path({str(path)!r}), choice)
one = np.zeros((1, 3), np.uint16)
session.feed({{"ids": one, "values": one.astype(np.uint8), "lengths": np.ones(1, np.int32)}})
for arrays in ({{"ids": one}}, {{"ids": one, "values": np.zeros((2, 5), np.uint8), "lengths": np.ones(1, np.int32)}}):
    try:
        session.feed(arrays)
    except InternalError:
        pass
try:
    Session.open(pathlib.Path("/nowhere.onnx"), choice)
except ProviderError:
    pass
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""
