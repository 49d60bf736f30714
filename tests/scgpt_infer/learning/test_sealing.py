"""The head as a graph, and a bundle that is one only when its head is right."""

import numpy as np
import onnx
import pytest

from scgpt_infer.learning import LearnOptions, learn, sealing
from scgpt_infer.learning.sealing import head_graph
from scgpt_infer.options import EmbedOptions
from scgpt_runtime.errors import InternalError, OutputError
from scgpt_runtime.external import external_locations
from scgpt_runtime.providers import onnxruntime

ON_CPU = EmbedOptions(provider="cpu")


@pytest.fixture
def head():
    random = np.random.default_rng(0)
    return random.standard_normal((3, 200)).astype(np.float32), random.standard_normal(3).astype(np.float32)


def answers(head, cells):
    session = onnxruntime().InferenceSession(head_graph(*head), providers=["CPUExecutionProvider"])
    return session.run(None, {"cell": cells.astype(np.float32)})[0]


def test_onnx_accepts_the_graph_and_it_refers_to_no_file(head):
    read = onnx.load_from_string(head_graph(*head))
    onnx.checker.check_model(read, full_check=True)
    assert read.opset_import[0].version <= 20
    assert external_locations(head_graph(*head)) == set()


def test_vectors_of_any_length_get_the_same_answer(head):
    cells = np.random.default_rng(1).standard_normal((5, 200))
    unit = cells / np.linalg.norm(cells, axis=1, keepdims=True)
    expected = unit @ head[0].T.astype(np.float64) + head[1]
    for length in (1e-3, 1, 24, 1e6):
        np.testing.assert_allclose(answers(head, unit * length), expected, atol=1e-5)


def test_a_cell_without_a_vector_has_no_answer_and_spoils_none(head):
    cells = np.ones((3, 200))
    cells[0], cells[1, 3] = 0, np.nan
    told = answers(head, cells)
    assert np.isnan(told[:2]).all()
    assert np.isfinite(told[2]).all()


def test_a_head_that_answers_otherwise_is_not_sealed(file, toy_model, tmp_path, monkeypatch):
    monkeypatch.setattr(sealing, "head_graph", lambda weights, bias: head_graph(weights * np.float32(1.01), bias))
    with pytest.raises(InternalError, match="from what was fitted"):
        learn(file, "kind", tmp_path / "taught", model=toy_model, options=ON_CPU, how=LearnOptions())
    assert [path.name for path in tmp_path.iterdir()] == ["reference"]


def test_a_disk_that_fails_leaves_nothing(file, toy_model, tmp_path, monkeypatch):
    def full(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sealing.shutil, "copyfile", full)
    with pytest.raises(OutputError, match="the disk is full"):
        learn(file, "kind", tmp_path / "taught", model=toy_model, options=ON_CPU, how=LearnOptions())
    assert [path.name for path in tmp_path.iterdir()] == ["reference"]


@pytest.mark.parametrize("c", [1e-4, 1e4])
def test_weights_of_any_size_pass_the_proof(file, toy_model, tmp_path, c):
    learn(file, "kind", tmp_path / "taught", model=toy_model, options=ON_CPU, how=LearnOptions(c=c))
