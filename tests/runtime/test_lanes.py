"""Lanes in trouble: what they keep, what they leave behind and what they tell. On the processor."""

import gc
import logging
import os
import subprocess
import sys
import threading
import time
import weakref
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import toy_bundle as toy
from scgpt_runtime import gpu_session
from scgpt_runtime.batching import BatchPlan, batches
from scgpt_runtime.errors import DeviceError, DeviceLostError, DeviceMemoryError, InternalError
from scgpt_runtime.gpu_session import GpuSession
from scgpt_runtime.lanes import Lane
from scgpt_runtime.providers import ProviderChoice
from toy_gpu import LOST, MODELS, REFUSED, FailingMemory, said

NO_ROOM = "Error in execution: Failed to allocate memory for requested buffer of size 1073741824"
CAPTURING = said(900, "operation not permitted when stream is capturing")
CHOICE = ProviderChoice("cpu", "fp32", "fp32", "cuda-lengths", 1, 1, "")


@pytest.fixture
def opened(tmp_path):
    sessions = []

    def open_one(dialect="cuda-lengths", instances=1, **options) -> GpuSession:
        path = tmp_path / f"{dialect}.onnx"
        path.write_bytes(MODELS[dialect]().SerializeToString())
        session = GpuSession.open(path, replace(CHOICE, dialect=dialect, instances=instances), **options)
        sessions.append(weakref.ref(session))
        return session

    yield open_one
    for session in sessions:
        if session() is not None:
            session().close()


@pytest.fixture
def uncollected():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def batch_of(*lengths: int):
    (batch,) = batches(toy.tokens_of(list(lengths)), toy.SETTINGS, BatchPlan("padded", 1000))
    return batch


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


def test_a_failed_run_keeps_no_session_past_the_end(opened, monkeypatch, uncollected):
    memory = FailingMemory()
    session = opened(memories=lambda device: memory)

    def fail(self, *arguments):
        raise RuntimeError("Error in execution: no plan was found")

    monkeypatch.setattr(onnxruntime.InferenceSession, "run_with_iobinding", fail)
    inner = weakref.ref(session._lanes[0]._session)
    with pytest.raises(InternalError, match="no plan was found") as raised:
        session.run(batch_of(9))
    session.close()
    assert "no plan was found" in str(raised.value.__cause__)
    assert inner() is None
    assert memory.calls["end"] == 1


FORKS = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import toy_bundle as toy
from scgpt_runtime.batching import BatchPlan, batches
from scgpt_runtime.errors import ProviderError
from scgpt_runtime.gpu_session import GpuSession
from scgpt_runtime.providers import ProviderChoice

(batch,) = batches(toy.tokens_of([9]), toy.SETTINGS, BatchPlan("padded", 9))
session = GpuSession.open(Path(sys.argv[1]), ProviderChoice("cpu", "fp32", "fp32", "cuda-lengths", 1, 1, ""))
wanted = session.run(batch)["cell"].tolist()
lane = session._free.get() if sys.argv[3] == "busy" else None  # as a run of another thread would have it
child = os.fork()
if child == 0:
    signal.alarm(20)
    try:
        session.run(batch)
    except ProviderError as error:
        print(error, flush=True)
    session.close()
    sys.exit(7)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
if lane is not None:
    session._free.put(lane)
print(status, session.run(batch)["cell"].tolist() == wanted)
session.close()
"""


@pytest.mark.parametrize("lane", ["free", "busy"])
def test_a_forked_process_is_told_and_its_parent_goes_on(tmp_path, lane):
    path = tmp_path / "x.onnx"
    path.write_bytes(MODELS["cuda-lengths"]().SerializeToString())
    folder = os.path.dirname(toy.__file__)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKS, str(path), folder, lane]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    child, parent = done.stdout.splitlines()
    assert "before this process was forked" in child
    assert "spawn" in child
    assert parent == "7 True"
    assert (done.returncode, done.stderr) == (0, "")


def working() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "scgpt-infer lane" in thread.name]


def ended(memories) -> bool:
    """Whether lanes that nobody waits for have come to their end."""
    until = time.monotonic() + 10
    while time.monotonic() < until and (working() or any(memory.calls.get("end") != 1 for memory in memories)):
        time.sleep(0.01)
    return not working()


def test_a_session_that_is_dropped_lets_go_in_its_own_thread(opened, uncollected):
    memories = []

    class Seen(FailingMemory):
        def end(self):
            super().end()
            self.ended_in = threading.current_thread().name

    session = opened(instances=2, memories=lambda device: memories.append(Seen(device)) or memories[-1])
    for _ in range(4):
        session.run(batch_of(9, 4))
    assert all(memory.held for memory in memories)
    inner = [weakref.ref(lane._session) for lane in session._lanes]
    del session
    assert ended(memories)
    assert [memory.held for memory in memories] == [0, 0]
    assert [memory.calls["end"] for memory in memories] == [1, 1]
    assert all("scgpt-infer lane" in memory.ended_in for memory in memories)
    assert [one() for one in inner] == [None, None]


def test_a_session_may_be_collected_in_the_thread_of_its_own_lane(opened):
    memories = [FailingMemory()]
    session = opened(memories=lambda device: memories[0])
    circle = [session]
    circle.append(circle)
    worker = session._lanes[0]._worker
    del session, circle
    worker.do(gc.collect)
    del worker
    assert ended(memories)


def check(session, *lengths: int) -> None:
    """Cells are answered as they should be."""
    tokens = toy.tokens_of(list(lengths))
    for batch in batches(tokens, toy.SETTINGS, BatchPlan("padded", 1000)):
        for row, cell in zip(session.run(batch)["cell"], batch.cells, strict=True):
            np.testing.assert_allclose(row, toy.answer(tokens, cell), rtol=1e-6)


def test_a_lost_device_that_says_memory_is_lost_and_nothing_is_taken_down(opened):
    memory = FailingMemory(on={"copy_in": {2: NO_ROOM}, "wait": {2: LOST}})
    session = opened(memories=lambda device: memory)
    check(session, 9)
    inner = weakref.ref(session._lanes[0]._session)
    with pytest.raises(DeviceLostError, match="CUDA failure 700"):
        check(session, 9)
    session.close()
    assert inner() is not None  # its end would abort the process
    assert "give_back" not in memory.calls
    assert "end" not in memory.calls


def test_memory_that_ran_out_is_memory_where_the_device_still_answers(opened):
    session = opened(memories=lambda device: FailingMemory(on={"copy_in": {1: NO_ROOM}}))
    with pytest.raises(DeviceMemoryError, match="Failed to allocate memory"):
        check(session, 9)
    check(session, 9)


class Streams(FailingMemory):
    """Counts its streams, as a GPU numbers them."""

    @property
    def stream(self):
        return self.calls.get("start", 0)


def test_a_stream_that_failed_to_record_is_not_used_again(tmp_path):
    path = tmp_path / "x.onnx"
    path.write_bytes(MODELS["cuda-lengths"]().SerializeToString())
    streams = []

    def opener(memory, records):
        streams.append((memory.stream, records))
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    memory = Streams(on={"wait": {2: REFUSED}})
    lane = Lane(opener, memory, "x.onnx", "GPU 0", records=True)
    try:
        lane.open()
        for _ in range(4):
            lane.answer(batch_of(9).arrays)
    finally:
        lane.close()
    assert streams == [(1, True), (2, False)]
    assert memory.calls["end"] == 1


def test_a_device_that_is_lost_as_a_session_is_opened_again_is_lost(tmp_path):
    path = tmp_path / "x.onnx"
    path.write_bytes(MODELS["cuda-lengths"]().SerializeToString())

    def opener(memory, records):
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    lane = Lane(opener, FailingMemory(on={"wait": {2: REFUSED}, "start": {2: LOST}}), "x.onnx", "GPU 0", records=True)
    try:
        lane.open()
        lane.answer(batch_of(9).arrays)
        with pytest.raises(DeviceLostError, match="GPU 0 stopped working"):
            lane.answer(batch_of(9).arrays)
    finally:
        lane.close()


@pytest.mark.parametrize("records", [True, False])
def test_a_graph_that_others_record_is_waited_for(opened, caplog, records):
    memory = FailingMemory(on={"copy_in": {1: CAPTURING, 2: CAPTURING}})
    session = opened(memories=lambda device: memory, records=records)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            check(session, 9)
    assert not caplog.records
    assert [shape.recorded for shape in session._lanes[0]._buffers.shapes.values()] == [int(records)]


def test_a_graph_that_others_record_for_ever_is_told_and_is_no_wrong_installation(opened, monkeypatch):
    monkeypatch.setattr("scgpt_runtime.lanes._PAUSES", (0.0, 0.0))
    memory = FailingMemory(on={"copy_in": dict.fromkeys((1, 2, 3), CAPTURING)})
    session = opened(memories=lambda device: memory, records=False)
    with pytest.raises(DeviceError, match="a process of its own") as raised:
        check(session, 9)
    assert "do not fit together" not in str(raised.value)
    check(session, 9)


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        (CAPTURING, DeviceError, "a process of its own"),
        (
            "CUBLAS failure 1: CUBLAS_STATUS_NOT_INITIALIZED ; GPU=0",
            DeviceMemoryError,
            r"ran out for .*\.onnx.*nvidia-smi",
        ),
        ("CUDNN failure 1001: CUDNN_STATUS_NOT_INITIALIZED ; GPU=0", DeviceMemoryError, r"ran out .*doctor"),
    ],
)
def test_what_keeps_a_session_from_opening_is_no_fault_of_the_bundle(opened, monkeypatch, text, kind, words):
    monkeypatch.setattr("scgpt_runtime.lanes._PAUSES", (0.0,))
    with pytest.raises(DeviceError, match=words) as raised:
        opened(memories=lambda device: FailingMemory(on={"start": {1: text, 2: text}}))
    assert type(raised.value) is kind
    assert "export" not in str(raised.value)


@pytest.mark.parametrize("step", ["start", "open"])
def test_opening_waits_for_a_graph_that_others_record(tmp_path, monkeypatch, step):
    monkeypatch.setattr("scgpt_runtime.lanes._PAUSES", (0.0, 0.0))
    (tmp_path / "x.onnx").write_bytes(MODELS["cuda-lengths"]().SerializeToString())
    tried = []

    def opener(memory, records):
        tried.append(1)
        if step == "open" and len(tried) < 3:
            raise RuntimeError(CAPTURING)
        return onnxruntime.InferenceSession(str(tmp_path / "x.onnx"), providers=["CPUExecutionProvider"])

    memory = FailingMemory(on={"start": {1: CAPTURING, 2: CAPTURING}} if step == "start" else None)
    lane = Lane(opener, memory, "x.onnx", "GPU 0", records=False)
    try:
        lane.open()
    finally:
        lane.close()
    assert (memory.calls["start"], len(tried)) == ((3, 1) if step == "start" else (1, 3))  # no second stream


def test_a_stream_that_a_kept_session_holds_is_not_ended(opened):
    memory = FailingMemory(on={"wait": {1: REFUSED}, "start": {2: said(2, "out of memory")}})
    session = opened("cuda-packed", memories=lambda device: memory)
    (batch,) = batches(toy.tokens_of([9]), toy.SETTINGS, BatchPlan("packed", 128, longest=24))
    with pytest.raises(DeviceMemoryError):
        session.run(batch)
    session.close()
    assert "end" not in memory.calls


def test_it_tells_whether_all_lanes_still_record(opened, caplog):
    memories = [FailingMemory(on={"wait": {1: REFUSED}}), FailingMemory()]
    waiting = iter(memories)
    session = opened("cuda-packed", instances=2, memories=lambda device: next(waiting))
    assert session.recording
    (batch,) = batches(toy.tokens_of([9]), toy.SETTINGS, BatchPlan("packed", 128, longest=24))
    session.run(batch)
    assert [lane.recording for lane in session._lanes] == [False, True]
    assert not session.recording
    assert not opened("cuda-packed", records=False).recording


FORKS_ALONE = """
import os, signal, sys
from pathlib import Path
from scgpt_runtime import lanes
from scgpt_runtime.gpu_session import GpuSession
from scgpt_runtime.providers import ProviderChoice

with lanes._TURNS.alone():  # as a lane of the parent that records
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        GpuSession.open(Path(sys.argv[1]), ProviderChoice("cpu", "fp32", "fp32", "cuda-lengths", 1, 1, "")).close()
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_process_that_was_forked_during_a_recording_opens_sessions(tmp_path):
    path = tmp_path / "x.onnx"
    path.write_bytes(MODELS["cuda-lengths"]().SerializeToString())
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKS_ALONE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("7\n", "")
