"""The session that drives GPUs, on the processor: the same code, with the host's memory and the toy graph."""

import logging
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

import toy_bundle as toy
from scgpt_runtime import gpu_session
from scgpt_runtime.batching import BatchPlan, batches, plan_for
from scgpt_runtime.cells import TokenBlock
from scgpt_runtime.device_memory import HostMemory
from scgpt_runtime.errors import DeviceLostError, DeviceMemoryError, InternalError, ProviderError
from scgpt_runtime.gpu_session import GpuSession, cuda_options
from scgpt_runtime.manifest import CUDA_DIALECTS
from scgpt_runtime.providers import ProviderChoice
from scgpt_runtime.session import Session
from scgpt_runtime.turns import Turns
from toy_gpu import LOST, MODELS, OUT_OF_MEMORY, REFUSED, FailingMemory, said

CHOICE = ProviderChoice("cpu", "fp32", "fp32", "cuda-lengths", 2, 1, "")
LENGTHS = [5, 24, 1, 17, 17, 8, 24, 24, 3, 3, 3, 12]


def written(folder, dialect="cuda-lengths"):
    path = folder / f"{dialect}.onnx"
    path.write_bytes(MODELS[dialect]().SerializeToString())
    return path


@pytest.fixture
def opened(tmp_path):
    sessions = []

    def open_one(dialect="cuda-lengths", instances=1, **options) -> GpuSession:
        choice = replace(CHOICE, dialect=dialect, instances=instances)
        sessions.append(GpuSession.open(written(tmp_path, dialect), choice, **options))
        return sessions[-1]

    yield open_one
    for session in sessions:
        session.close()


def check(session, tokens: TokenBlock, plan: BatchPlan) -> None:
    for batch in batches(tokens, toy.SETTINGS, plan):
        answers = session.run(batch)["cell"]
        assert answers.shape == (len(batch.cells), toy.DIM)
        assert answers.dtype == np.float32
        for row, cell in zip(answers, batch.cells, strict=True):
            np.testing.assert_allclose(row, toy.answer(tokens, cell), rtol=1e-6)


def recorded(session) -> list[int]:
    """Numbers of recorded shapes of the first lane, in the order in which they were seen."""
    return [shape.recorded for shape in session._lanes[0]._buffers.shapes.values()]


def working() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "scgpt-infer lane" in thread.name]


@pytest.mark.parametrize("records", [True, False])
@pytest.mark.parametrize("dialect", CUDA_DIALECTS)
def test_every_cell_gets_its_own_answer_however_often(opened, dialect, records):
    session, tokens = opened(dialect, records=records), toy.tokens_of([*LENGTHS, 0, 2])
    plan = replace(plan_for(replace(CHOICE, dialect=dialect), toy.SETTINGS), budget=128)
    for _ in range(3):
        check(session, tokens, plan)
    assert any(recorded(session)) == records


@pytest.mark.parametrize("dialect", ["cuda-packed", "cuda-lengths"])
def test_lanes_at_once_give_the_same_rows(opened, dialect):
    session = opened(dialect, instances=3)
    plan = replace(plan_for(replace(CHOICE, dialect=dialect), toy.SETTINGS), budget=128)
    failed = []

    def work(seed):
        try:
            random = np.random.default_rng(seed)
            for _ in range(5):
                check(session, toy.tokens_of(random.integers(0, 25, 30), seed), plan)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed


def test_inputs_outputs_and_provider_are_told(opened, tmp_path):
    session, plain = opened(), Session.open(written(tmp_path), CHOICE)
    assert (session.inputs, session.outputs, session.provider) == (plain.inputs, plain.outputs, plain.provider)


def test_an_answer_outlives_the_next_batch(opened):
    session = opened()
    first, second = batches(toy.tokens_of([9, 4]), toy.SETTINGS, BatchPlan("padded", 1))
    answer = session.run(first)["cell"]
    kept = answer.copy()
    session.run(second)
    np.testing.assert_array_equal(answer, kept)


def test_a_shape_is_recorded_when_it_comes_again_and_keeps_its_place(opened):
    session = opened(most_recorded=2)
    tokens = toy.tokens_of([4, 9, 9, 12, 12, 12, 15, 15])
    for batch in batches(tokens, toy.SETTINGS, BatchPlan("padded", 1))[::-1]:
        session.run(batch)
    assert recorded(session) == [0, 1, 2, 0]  # once, twice, three times, and too many
    places = [shape.address for shape in session._lanes[0]._buffers.shapes.values()]
    assert len({places[1], places[2], places[0]}) == 3
    assert places[0] == places[3]
    check(session, toy.tokens_of([24] * 50), BatchPlan("padded", 10_000))  # shared memory grows
    assert [shape.address for shape in session._lanes[0]._buffers.shapes.values()][1:3] == places[1:3]
    check(session, tokens, BatchPlan("padded", 1))


def test_while_one_lane_records_no_other_touches_a_device(opened, monkeypatch):
    holder, wrong, alone = [], [], []

    class Watched(Turns):
        @contextmanager
        def alone(self):
            with super().alone():
                holder.append(threading.get_ident())
                alone.append(True)
                time.sleep(0.005)
                yield
                holder.clear()

    class Watching(FailingMemory):
        def _count(self, name):
            if holder and holder != [threading.get_ident()]:
                wrong.append(name)

    monkeypatch.setattr("scgpt_runtime.lanes._TURNS", Watched())
    session = opened(instances=3, memories=Watching)

    def work(seed):
        for _ in range(3):
            check(session, toy.tokens_of(LENGTHS, seed), BatchPlan("padded", 60))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    session.close()
    assert len(alone) >= 3
    assert not wrong


def test_packed_shapes_are_recorded_at_once(opened):
    session = opened("cuda-packed")
    check(session, toy.tokens_of(LENGTHS), BatchPlan("packed", 128, longest=24))
    assert recorded(session) == [1]


def test_shapes_that_never_recur_are_forgotten(opened, monkeypatch):
    monkeypatch.setattr("scgpt_runtime.lanes._MOST_SHAPES", 8)
    session = opened()
    for length in [7, 7, *range(1, 25)]:
        check(session, toy.tokens_of([length]), BatchPlan("padded", 1))
    known = session._lanes[0]._buffers.shapes
    assert len(known) <= 9
    assert any(shape.recorded for shape in known.values())


@pytest.mark.parametrize(
    "change",
    [
        {"ids": np.zeros((2, 3), np.int64)},
        {"lengths": np.zeros(3, np.int32)},
        {"values": np.zeros((2, 4), np.uint8)},
        {"values": None},
        {"lengths": np.zeros((2, 1), np.int32)},
    ],
)
def test_what_does_not_fit_the_graph_is_never_read_from_memory(opened, change):
    fed = {"ids": np.ones((2, 3), np.uint16), "values": np.ones((2, 3), np.uint8), "lengths": np.full(2, 3, np.int32)}
    fed = {name: array for name, array in (fed | change).items() if array is not None}
    with pytest.raises(InternalError, match=r"wants (ids|values|lengths) as .* not"):
        opened().feed(fed)


def test_memory_that_runs_out_is_told_with_shapes_and_the_lane_goes_on(opened):
    memory = FailingMemory(room=3 * 24 * 4 + 3000)
    session = opened(memories=lambda device: memory)
    check(session, toy.tokens_of(LENGTHS), BatchPlan("padded", 100))
    held = memory.held
    assert held > 0
    with pytest.raises(DeviceMemoryError, match=r"one batch \(ids \(200, 24\) uint16.*out of memory.*--batch-tokens"):
        check(session, toy.tokens_of([24] * 200), BatchPlan("padded", 10_000))
    assert memory.held == 0  # what the large batch had taken must not stand in the way of small ones
    for _ in range(3):
        check(session, toy.tokens_of(LENGTHS), BatchPlan("padded", 100))
    session.close()
    assert memory.held == 0
    assert memory.calls["staging"] == memory.calls["free_staging"]


@pytest.mark.parametrize("call", [1, 2, 3])
def test_memory_may_run_out_at_any_allocation(opened, call):
    memory = FailingMemory(on={"take": {call: OUT_OF_MEMORY}})
    session, tokens, failed = opened(memories=lambda device: memory), toy.tokens_of(LENGTHS), 0
    for _ in range(4):
        for batch in batches(tokens, toy.SETTINGS, BatchPlan("padded", 60)):
            try:
                session.run(batch)
            except DeviceMemoryError:
                failed += 1
    assert failed == 1
    check(session, tokens, BatchPlan("padded", 60))


def test_a_lost_device_is_lost_for_good_and_nothing_touches_it_again(opened):
    memory = FailingMemory(on={"wait": {2: LOST}})
    session = opened(instances=1, memories=lambda device: memory)
    one, two = batches(toy.tokens_of([9, 4]), toy.SETTINGS, BatchPlan("padded", 1))
    session.run(one)
    with pytest.raises(DeviceLostError, match=r"this processor stopped working: CUDA failure 700.*start a new one"):
        session.run(two)
    calls = dict(memory.calls)
    with pytest.raises(DeviceLostError, match="CUDA failure 700"):
        session.run(one)
    session.close()
    assert memory.calls == calls


def test_a_device_that_cannot_even_take_memory_back_is_lost(opened):
    memory = FailingMemory(room=100, on={"give_back": {1: LOST}})
    session = opened(memories=lambda device: memory)
    (batch,) = batches(toy.tokens_of([24] * 9), toy.SETTINGS, BatchPlan("padded", 1000))
    with pytest.raises(DeviceLostError, match="CUDA failure 700"):
        session.run(batch)


def test_an_error_that_says_nothing_is_asked_of_the_device(opened):
    memory = FailingMemory(on={"copy_in": {1: "nobody knows"}, "wait": {1: LOST}})
    session = opened(memories=lambda device: memory)
    (batch,) = batches(toy.tokens_of([9]), toy.SETTINGS, BatchPlan("padded", 1))
    with pytest.raises(DeviceLostError):
        session.run(batch)
    memory = FailingMemory(on={"copy_in": {1: "nobody knows"}})
    session = opened(memories=lambda device: memory)
    with pytest.raises(InternalError, match="nobody knows"):
        session.run(batch)
    session.run(batch)


@pytest.mark.parametrize("text", [REFUSED, said(900, "operation not permitted when stream is capturing")])
def test_where_recording_is_refused_the_lane_goes_on_without(opened, caplog, text):
    memory = FailingMemory(on={"wait": {1: text}})
    session = opened("cuda-packed", memories=lambda device: memory)
    plan = BatchPlan("packed", 128, longest=24)
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            check(session, toy.tokens_of(LENGTHS), plan)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "records no CUDA graphs any more" in caplog.text
    assert not any(recorded(session))


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        (said(35, "CUDA driver version is insufficient for CUDA runtime version"), ProviderError, "doctor"),
        (said(46, "all CUDA-capable devices are busy or unavailable"), ProviderError, "cannot be used"),
        (OUT_OF_MEMORY, DeviceMemoryError, r"ran out for .*\.onnx"),
        ("something else", ProviderError, r"cannot open .*\.onnx on this processor: something else"),
    ],
)
def test_a_device_that_does_not_start_is_told_and_no_lane_is_left(opened, text, kind, words):
    memories = iter([FailingMemory(), FailingMemory(on={"start": {1: text}})])
    with pytest.raises(ProviderError, match=words) as raised:
        opened(instances=2, memories=lambda device: next(memories))
    assert type(raised.value) is kind
    assert not working()


def test_lanes_take_turns_on_all_devices(tmp_path):
    memories = {}

    def make(device):
        memories.setdefault(device, []).append(FailingMemory(device))
        return memories[device][-1]

    choice = replace(CHOICE, instances=4, devices=(2, 5))
    session = GpuSession.open(written(tmp_path), choice, memories=make)
    try:
        assert {device: len(made) for device, made in memories.items()} == {2: 2, 5: 2}
        for batch in batches(toy.tokens_of([9] * 12), toy.SETTINGS, BatchPlan("padded", 1)):
            session.run(batch)
        assert [made.calls["copy_in"] for device in (2, 5) for made in memories[device]] == [3] * 4
    finally:
        session.close()


def test_closing_wakes_those_who_wait_for_a_lane(opened):
    session = opened()
    (batch,) = batches(toy.tokens_of([3]), toy.SETTINGS, BatchPlan("padded", 9))
    session._free.get()
    ended = []

    def wait():
        with pytest.raises(InternalError, match="was closed"):
            session.run(batch)
        ended.append(True)

    threads = [threading.Thread(target=wait, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    session.close()
    session.close()
    for thread in threads:
        thread.join(10)
    assert ended == [True] * 3
    assert not working()


def test_a_file_that_is_no_graph_is_named(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"not a graph")
    with pytest.raises(ProviderError, match=r"x\.onnx"):
        GpuSession.open(tmp_path / "x.onnx", CHOICE)
    assert not working()


def test_a_gpu_that_is_not_there_is_an_error_never_a_processor(tmp_path):
    with pytest.raises(ProviderError, match="CPUExecutionProvider"):
        GpuSession.open(written(tmp_path), replace(CHOICE, provider="cuda", devices=(0,)), memories=HostMemory)
    assert not working()


def test_a_process_that_was_forked_from_one_on_a_gpu_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_session, "_on_gpu_in", set())
    monkeypatch.setattr(gpu_session, "obstacle", lambda provider: None)
    path, choice = written(tmp_path), replace(CHOICE, provider="cuda", devices=(0,))
    for _ in range(2):  # the same process may try again
        with pytest.raises(ProviderError, match="CPUExecutionProvider"):
            GpuSession.open(path, choice, memories=HostMemory)
    monkeypatch.setattr(gpu_session, "_on_gpu_in", {pid + 1 for pid in gpu_session._on_gpu_in})
    with pytest.raises(ProviderError, match=r"forked from one that had used a GPU.*spawn"):
        GpuSession.open(path, choice, memories=HostMemory)
    GpuSession.open(path, CHOICE).close()  # a processor is no matter of CUDA's


def test_options_of_the_provider():
    told = cuda_options(1, 0xABC, "cuda-lengths", records=True)
    assert told["device_id"] == "1"
    assert (told["has_user_compute_stream"], told["user_compute_stream"]) == ("1", str(0xABC))
    assert told["enable_cuda_graph"] == "1"
    assert told["use_tf32"] == "0"
    assert told["enable_skip_layer_norm_strict_mode"] == "1"
    assert told["sdpa_kernel"] == "8"
    assert all(isinstance(value, str) for value in told.values())
    plain = cuda_options(0, 0, "portable", records=False)
    assert plain["enable_cuda_graph"] == "0"
    assert "sdpa_kernel" not in plain


def test_a_process_that_forgets_to_close_still_ends_in_order(tmp_path):
    code = f"""
import pathlib, sys
sys.path.insert(0, {str(toy.__file__.rsplit("/", 1)[0])!r})
import toy_bundle as toy
from scgpt_runtime.batching import BatchPlan, batches
from scgpt_runtime.gpu_session import GpuSession
from scgpt_runtime.providers import ProviderChoice
choice = ProviderChoice("cpu", "fp32", "fp32", "cuda-lengths", 2, 1, "")
session = GpuSession.open(pathlib.Path({str(written(tmp_path))!r}), choice)
for batch in batches(toy.tokens_of([9] * 12), toy.SETTINGS, BatchPlan("padded", 1)):
    session.run(batch)
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
