"""Without TensorRT: a stand-in for ONNX Runtime keeps engines as TensorRT does, and answers on the processor."""

import logging
import os
import threading
from dataclasses import replace

import numpy as np
import pytest

import toy_bundle as toy
from fake_tensorrt import NAME, Runtime
from scgpt_infer import demo
from scgpt_runtime import tensorrt_engine, tensorrt_session
from scgpt_runtime.batching import BatchPlan, batches
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.errors import DeviceLostError, DeviceMemoryError, InternalError, ProviderError
from scgpt_runtime.gpus import Gpu
from scgpt_runtime.proof import LIMITS, golden_tokens, worst_of
from scgpt_runtime.providers import ProviderChoice
from scgpt_runtime.tensorrt import library_version
from scgpt_runtime.tensorrt_session import TensorRTSession

CHOICE = ProviderChoice("tensorrt", "fp16", "fp16", "portable", 2, 1, "", (0,))
GPU = Gpu(0, "NVIDIA H100 80GB HBM3", (9, 0), 80 << 30, 79 << 30, 50 << 20, 132, "GPU-1")
PLAN = BatchPlan("padded", 16384, 32)


@pytest.fixture
def runtime(monkeypatch):
    made = Runtime()
    monkeypatch.setattr(tensorrt_engine, "onnxruntime", lambda: made)
    monkeypatch.setattr(tensorrt_session, "onnxruntime", lambda: made)
    monkeypatch.setattr(tensorrt_session, "library_version", lambda: "10.9.0")
    monkeypatch.setattr(tensorrt_engine, "gpus", lambda: (GPU, replace(GPU, index=1)))
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    return made


@pytest.fixture
def path(tmp_path):
    (tmp_path / "embed.fp16.portable.onnx").write_bytes(toy.model().SerializeToString())
    return tmp_path / "embed.fp16.portable.onnx"


@pytest.fixture
def opened(path, tmp_path):
    def make(said=None, **change):
        told = [] if said is None else said
        given = {"choice": CHOICE, "cache_dir": tmp_path / "cache", "bundle_key": "b", "longest": 1200} | change
        return TensorRTSession.open(path, **given, say=told.append)

    return make


def _batches(lengths):
    return batches(toy.tokens_of(lengths), toy.SETTINGS, PLAN)


def _ask(session, lengths):
    for batch in _batches(lengths):
        session.run(batch)


def test_batches_of_all_lengths_are_answered_by_the_engine_of_their_bucket(opened, runtime):
    tokens = toy.tokens_of([3, 1200, 256, 257, 700, 0, 1, 800])
    session = opened()
    for batch in batches(tokens, toy.SETTINGS, replace(PLAN, budget=300)):
        for row, cell in zip(session.run(batch)["cell"], batch.cells, strict=True):
            np.testing.assert_allclose(row, toy.answer(tokens, cell), rtol=1e-5)
    assert [options["trt_profile_max_shapes"].split(",")[0] for options in runtime.opened] == [
        "ids:21x1216",
        "ids:31x768",
        "ids:63x512",
        "ids:128x256",
    ]


def test_nothing_is_compiled_before_the_first_batch_nor_twice(opened, runtime):
    session = opened()
    assert runtime.opened == []
    _ask(session, [5, 6])
    _ask(session, [200, 7])
    assert len(runtime.opened) == 1


def test_more_cells_than_an_engine_takes_go_in_parts_and_come_back_in_order(opened, runtime):
    tokens = toy.tokens_of(list(range(1, 31)) * 10)
    (batch,) = batches(tokens, toy.SETTINGS, PLAN)
    answers = opened().run(batch)["cell"]
    assert [shape for _, shape in runtime.runs] == [(128, 32), (128, 32), (44, 32)]
    for row, cell in zip(answers, batch.cells, strict=True):
        np.testing.assert_allclose(row, toy.answer(tokens, cell), rtol=1e-5)


def test_the_first_engine_is_announced_with_how_long_it_took_and_the_second_start_is_silent(opened, runtime, tmp_path):
    said = []
    _ask(opened(said), [5])
    assert len(said) == 2
    assert "cells of 1 to 256 tokens" in said[0]
    assert "documentation" in said[0]
    assert str(tmp_path / "cache" / "tensorrt") in said[0]
    assert "ready after" in said[1]
    later = []
    _ask(opened(later), [5])
    assert later == []
    assert len(runtime.compiled) == 1


def test_by_default_users_hear_of_it_as_a_warning(path, runtime, caplog):
    with caplog.at_level(logging.WARNING):
        _ask(TensorRTSession.open(path, CHOICE, None, "b"), [5])
    assert "is compiled now" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        {"bundle_key": "other"},
        {"choice": replace(CHOICE, precision="fp32")},
        {"longest": 200},
    ],
)
def test_another_bundle_precision_or_shape_is_another_engine(opened, runtime, change):
    _ask(opened(), [5])
    _ask(opened(**change), [5])
    assert len(runtime.compiled) == 2


@pytest.mark.parametrize("what", ["onnxruntime", "tensorrt", "gpu", "graph"])
def test_another_version_gpu_or_graph_is_another_engine(opened, runtime, monkeypatch, path, what):
    _ask(opened(), [5])
    if what == "onnxruntime":
        monkeypatch.setattr(Runtime, "__version__", "1.26.0")
    if what == "tensorrt":
        monkeypatch.setattr(tensorrt_session, "library_version", lambda: "10.10.0")
    if what == "gpu":
        monkeypatch.setattr(tensorrt_engine, "gpus", lambda: (replace(GPU, name="NVIDIA A100", capability=(8, 0)),))
    if what == "graph":
        path.rename(path.with_name("tokens.fp16.portable.onnx"))
        path.with_name("tokens.fp16.portable.onnx").rename(path.parent / "tokens.onnx")
        _ask(TensorRTSession.open(path.parent / "tokens.onnx", CHOICE, path.parent / "cache", "b"), [5])
    else:
        _ask(opened(), [5])
    assert len(runtime.compiled) == 2


def test_two_gpus_of_one_kind_share_engines_and_the_work(opened, runtime):
    session = opened(choice=replace(CHOICE, devices=(0, 1)))
    (batch,) = _batches([5])
    meet = threading.Barrier(2, timeout=10)
    answer = tensorrt_session.open_engine

    def both_at_once(recipe, device, bucket):
        meet.wait()
        return answer(recipe, device, bucket)

    tensorrt_session.open_engine = both_at_once
    try:
        threads = [threading.Thread(target=session.run, args=(batch,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    finally:
        tensorrt_session.open_engine = answer
    assert sorted(device for device, _ in runtime.runs) == ["0", "1"]
    assert len(runtime.compiled) == 1


def test_a_second_process_waits_and_takes_the_engine_of_the_first(opened, runtime):
    said, second = [], []
    compiling, go_on = threading.Event(), threading.Event()

    def slow(options):
        compiling.set()
        assert go_on.wait(20)

    runtime.fail = slow
    first = threading.Thread(target=_ask, args=(opened(said), [5]))
    first.start()
    assert compiling.wait(10)
    other = threading.Thread(target=_ask, args=(opened(second), [5]))
    other.start()
    while not second:
        other.join(0.01)
    assert "waiting" in second[0]
    go_on.set()
    first.join(20)
    other.join(20)
    assert len(second) == 1
    assert len(runtime.compiled) == 1


def test_without_a_cache_folder_engines_are_compiled_at_each_start_and_it_is_said(opened, runtime):
    said = []
    for _ in range(2):
        _ask(opened(said, cache_dir=None), [5])
    assert len(runtime.compiled) == 2
    assert sum("compiled at each start: there is no cache folder" in line for line in said) == 2


def test_a_cache_folder_that_others_may_write_to_is_not_used(opened, runtime, tmp_path):
    said = []
    (tmp_path / "cache" / "tensorrt").mkdir(parents=True)
    (tmp_path / "cache" / "tensorrt").chmod(0o777)
    _ask(opened(said), [5])
    assert runtime.opened[0]["trt_engine_cache_enable"] == "False"
    assert "chmod 700" in said[0]
    assert list((tmp_path / "cache" / "tensorrt").iterdir()) == []


def test_a_changed_engine_never_reaches_tensorrt(opened, runtime, tmp_path):
    _ask(opened(), [5])
    (engine,) = (tmp_path / "cache").rglob("*.engine")
    engine.write_bytes(b"forged")
    _ask(opened(), [5])
    assert engine.read_bytes() == b"engine"
    assert len(runtime.compiled) == 2


def test_an_engine_that_tensorrt_cannot_read_is_compiled_anew(opened, runtime, tmp_path):
    said = []
    _ask(opened(), [5])
    (engine,) = (tmp_path / "cache").rglob("*.engine")
    reads = []

    def refuse_once(options):
        reads.append(engine.is_file())
        if len(reads) == 1:
            raise RuntimeError(f"TensorRT EP could not deserialize engine from cache: {engine}")

    runtime.fail = refuse_once
    _ask(opened(said), [5])
    assert reads == [True, False]
    assert "compiled anew" in said[0]


def test_damaged_timings_are_forgotten(opened, runtime, tmp_path):
    _ask(opened(), [5])
    (timings,) = (tmp_path / "cache").rglob("*.timing")
    timings.write_bytes(b"damaged")
    _ask(opened(), [300])
    assert timings.read_bytes() == b"timing"


def test_an_engine_that_was_not_written_is_told(opened, runtime, monkeypatch):
    said = []
    monkeypatch.setattr(Runtime, "_keep", lambda self, options: None)
    _ask(opened(said), [5])
    assert "could not be kept" in said[-1]


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("TensorRT EP input onnx tensor data type: 4 not supported.", "does not take a type"),
        ("Following input(s) has no associated shape profiles provided: Cast_10.0", "a part of the graph"),
        ("TensorRT EP could not build engine for fused node: TRTKernel_0", "memory ran out"),
        ("libnvinfer.so.10: cannot open shared object file", "TensorRT 10 is not there"),
        ("something that nobody has seen", "something that nobody has seen"),
    ],
)
def test_what_tensorrt_refuses_is_said_with_the_way_out(opened, runtime, text, meaning):
    def fail(options):
        raise RuntimeError(text)

    runtime.fail = fail
    with pytest.raises(ProviderError, match=meaning) as told:
        _ask(opened(), [5])
    assert text in str(told.value)
    assert str(told.value).endswith("Take --provider cuda.")


def test_an_error_leaves_the_kept_engine_alone(opened, runtime, tmp_path):
    _ask(opened(), [5])

    def fail(options):
        raise RuntimeError("CUDA failure 2: out of memory")

    runtime.fail = fail
    with pytest.raises(ProviderError, match="out of memory"):
        _ask(opened(), [5])
    runtime.fail = lambda options: None
    _ask(opened(), [5])
    assert len(runtime.compiled) == 1


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("CUDA failure 2: out of memory ; GPU=0", DeviceMemoryError, r"GPU 0 .*\(4, 32\)"),
        ("CUDA failure 700: an illegal memory access was encountered", DeviceLostError, "GPU 0 stopped working"),
        ("TensorRT EP execution context enqueue failed.", ProviderError, "--provider cuda"),
        ("Invalid rank for input", InternalError, "bug in scgpt-infer"),
    ],
)
def test_a_failure_while_running_is_of_the_kind_that_the_engine_acts_on(opened, runtime, text, kind, words):
    def fail():
        raise RuntimeError(text)

    runtime.fail_run = fail
    with pytest.raises(kind, match=words) as told:
        _ask(opened(), [5, 6, 7, 8])
    assert type(told.value) is kind


def test_a_gpu_that_is_lost_while_compiling_is_lost(opened, runtime):
    def fail(options):
        raise RuntimeError("CUDA failure 719: unspecified launch failure")

    runtime.fail = fail
    with pytest.raises(DeviceLostError):
        _ask(opened(), [5])


def test_a_silent_change_of_provider_is_an_error(opened, runtime):
    runtime.taken = ["CUDAExecutionProvider"]
    with pytest.raises(ProviderError, match=r"runs .* with CUDAExecutionProvider"):
        _ask(opened(), [5])
    runtime.taken, runtime.running = [], ["CPUExecutionProvider"]
    with pytest.raises(ProviderError, match="with CPUExecutionProvider"):
        _ask(opened(), [5])


def test_a_graph_that_is_cut_is_told(opened, runtime):
    said = []
    runtime.taken = [NAME, "CUDAExecutionProvider", NAME]
    _ask(opened(said), [5])
    assert any("does not run the whole graph" in line for line in said)


def test_a_gpu_that_is_not_there_is_an_error(opened, runtime):
    with pytest.raises(ProviderError, match=r"no GPU 5 here; the driver lists \[0, 1\]"):
        _ask(opened(choice=replace(CHOICE, devices=(5,))), [5])


def test_fp32_products_are_not_rounded_to_tf32(opened, runtime):
    opened()
    assert "NVIDIA_TF32_OVERRIDE" not in os.environ
    opened(choice=replace(CHOICE, precision="fp32"))
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"
    del os.environ["NVIDIA_TF32_OVERRIDE"]


def test_wrong_inputs_and_use_after_closing_are_our_fault(opened, runtime):
    session = opened()
    (batch,) = _batches([5])
    with pytest.raises(InternalError, match="wants ids as uint16"):
        session.feed({**batch.arrays, "ids": batch.ids.astype(np.int64)})
    with pytest.raises(InternalError, match="wants lengths"):
        session.feed({"ids": batch.ids, "values": batch.values})
    session.close()
    with pytest.raises(InternalError, match="after it was closed"):
        session.run(batch)


def test_it_says_what_runs_as_parity_records_do(opened, runtime):
    assert opened().provider == "TensorrtExecutionProvider 1.31.1"


@pytest.mark.gpu
def test_tensorrt_itself_answers_the_demos_golden_cells_and_keeps_its_engines(gpu, tmp_path):
    try:
        library_version()
    except ProviderError as error:
        pytest.skip(str(error))
    bundle = Bundle.open(demo.BUNDLE)
    golden, said = bundle.golden(), []
    for _ in range(2):
        path = bundle.file(bundle.graph("embed", "fp16").path)
        session = TensorRTSession.open(path, replace(CHOICE, devices=(gpu.index,)), tmp_path, "demo", say=said.append)
        found = np.empty_like(golden.vectors)
        for batch in batches(golden_tokens(golden), bundle.manifest.tokenizer, PLAN):
            found[batch.cells] = session.run(batch)["cell"]
        session.close()
        assert worst_of(golden, found) <= LIMITS["fp16"]
    assert all(said.count(line) == 1 for line in said), "an engine was compiled twice"
