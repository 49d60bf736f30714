import threading

import numpy as np
import pytest

import toy_bundle as toy
from scgpt_runtime.batching import BatchPlan, batches
from scgpt_runtime.errors import InternalError, ProviderError
from scgpt_runtime.openvino_session import OpenVINOSession
from scgpt_runtime.providers import ProviderChoice, openvino_computes

CHOICE = ProviderChoice("openvino", "fp32", "fp32", "portable", 2, 1, "")


@pytest.fixture
def session(tmp_path):
    path = tmp_path / "embed.onnx"
    path.write_bytes(toy.model().SerializeToString())
    with_graph = OpenVINOSession.open(path, CHOICE)
    yield with_graph
    with_graph.close()


def test_inputs_and_outputs_are_those_of_the_graph(session):
    assert [(spec.name, spec.dtype, len(spec.shape)) for spec in session.inputs] == [
        ("ids", "uint16", 2),
        ("values", "uint8", 2),
        ("lengths", "int32", 1),
    ]
    (output,) = session.outputs
    assert (output.name, output.dtype, output.shape[1]) == ("cell", "float32", toy.DIM)
    assert session.provider.startswith("OpenVINO 20")


def test_padding_never_leaks_and_rows_stay_where_they_are(session):
    tokens = toy.tokens_of([5, 17, 2, 9])
    for batch in batches(tokens, toy.SETTINGS, BatchPlan("padded", 60)):
        (rows,) = session.run(batch).values()
        for place, cell in enumerate(batch.cells):
            np.testing.assert_allclose(rows[place], toy.answer(tokens, cell), rtol=1e-6)


def test_an_answer_outlives_the_next_batch(session):
    first, second = batches(toy.tokens_of([9, 4]), toy.SETTINGS, BatchPlan("padded", 1))
    answers = [session.run(first)["cell"] for _ in range(4)]
    kept = [answer.copy() for answer in answers]
    for _ in range(4):
        session.run(second)
    assert all(np.array_equal(*pair) for pair in zip(answers, kept, strict=True))


def test_several_threads_get_their_own_answers(session):
    tokens = toy.tokens_of(list(range(1, 25)))
    wrong = []

    def work():
        for batch in batches(tokens, toy.SETTINGS, BatchPlan("padded", 1)):
            (row,) = session.run(batch)["cell"]
            if not np.allclose(row, toy.answer(tokens, batch.cells[0]), rtol=1e-6):
                wrong.append(batch.cells[0])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_another_dtype_is_refused_rather_than_converted(session):
    (batch,) = batches(toy.tokens_of([3]), toy.SETTINGS, BatchPlan("padded", 9))
    with pytest.raises(InternalError, match="wants ids as uint16"):
        session.feed({"ids": batch.ids.astype(np.int64), "values": batch.values, "lengths": batch.lengths})
    with pytest.raises(InternalError, match="wants lengths as int32"):
        session.feed({"ids": batch.ids, "values": batch.values})


def test_shapes_that_do_not_fit_are_our_fault(session):
    (batch,) = batches(toy.tokens_of([3]), toy.SETTINGS, BatchPlan("padded", 9))
    with pytest.raises(InternalError, match="OpenVINO failed"):
        session.feed({"ids": batch.ids, "values": batch.values[:, :-1], "lengths": batch.lengths})
    assert session.run(batch)["cell"].shape == (1, toy.DIM)  # the instance is still there


def test_a_file_that_is_no_graph_is_named(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"not a graph")
    with pytest.raises(ProviderError, match=r"cannot compile .*x\.onnx.*--provider cpu"):
        OpenVINOSession.open(tmp_path / "x.onnx", CHOICE)


@pytest.mark.skipif("fp16" in openvino_computes(), reason="this processor computes fp16")
def test_a_precision_that_the_processor_lacks_is_never_replaced(tmp_path):
    (tmp_path / "x.onnx").write_bytes(toy.model().SerializeToString())
    choice = ProviderChoice("openvino", "fp16", "fp32", "portable", 1, 1, "")
    with pytest.raises(ProviderError, match="fp16 was chosen, but OpenVINO computes in"):
        OpenVINOSession.open(tmp_path / "x.onnx", choice)


def test_closing_wakes_those_who_wait_for_an_instance(session):
    (batch,) = batches(toy.tokens_of([3]), toy.SETTINGS, BatchPlan("padded", 9))
    taken = [session._requests.get() for _ in range(2)]
    ended = []

    def wait():
        with pytest.raises(InternalError, match="was closed"):
            session.run(batch)
        ended.append(True)

    threads = [threading.Thread(target=wait, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    session.close()
    for thread in threads:
        thread.join(10)
    assert ended == [True] * 3
    assert len(taken) == 2


def test_a_closed_session_says_so(session):
    (batch,) = batches(toy.tokens_of([3]), toy.SETTINGS, BatchPlan("padded", 9))
    session.close()
    with pytest.raises(InternalError, match="after it was closed"):
        session.run(batch)
