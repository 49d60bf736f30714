"""What an engine does when a device has no room, or is no more: on the processor, with memory that fails on demand."""

import logging
from dataclasses import replace

import numpy as np
import pytest

import toy_bundle as toy
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import AnyBatch
from scgpt_runtime.engine import Engine
from scgpt_runtime.errors import DeviceLostError, DeviceMemoryError
from scgpt_runtime.gpu_session import GpuSession
from scgpt_runtime.manifest import CUDA_DIALECTS
from scgpt_runtime.providers import ProviderChoice
from toy_gpu import LOST, MODELS, FailingMemory

COLUMNS = np.arange(toy.GENES + 2)


BLOCKS = toy.split(toy.cells(300), 60)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    return Bundle.open(toy.write(tmp_path_factory.mktemp("toy") / "toy"))


@pytest.fixture(scope="module")
def expected(bundle) -> np.ndarray:
    with Engine.open(bundle) as engine:
        return np.concatenate([result.outputs["cell"] for result in engine.run(BLOCKS, COLUMNS)])


@pytest.fixture
def opened(bundle, tmp_path):
    engines = []

    def open_one(dialect: str, memories, instances: int = 1, batch_tokens: int = 1024) -> Engine:
        choice = ProviderChoice("cpu", "fp32", "fp32", dialect, instances, 1, "")
        path = tmp_path / f"{dialect}.onnx"
        path.write_bytes(MODELS[dialect]().SerializeToString())
        runner = GpuSession.open(path, choice, memories=memories)
        graph = bundle.manifest.graphs[0]
        engines.append(Engine(bundle, graph, runner, choice, bundle.manifest.tokenizer, batch_tokens=batch_tokens))
        return engines[-1]

    yield open_one
    for engine in engines:
        engine.close()


def bytes_of(batch: AnyBatch) -> int:
    """As much as a lane copies of a batch, or a little more."""
    return sum(-(-array.nbytes // 256) * 256 for array in batch.arrays.values())


@pytest.mark.parametrize("instances", [1, 3])
@pytest.mark.parametrize("dialect", CUDA_DIALECTS)
def test_where_memory_suffices_the_budget_stays(opened, expected, dialect, instances, caplog):
    engine = opened(dialect, FailingMemory, instances)
    found = np.concatenate([result.outputs["cell"] for result in engine.run(BLOCKS, COLUMNS)])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert engine.batch_tokens == 1024
    assert not caplog.records


@pytest.mark.parametrize("instances", [1, 3])
@pytest.mark.parametrize("dialect", ["cuda-packed", "cuda-lengths", "cuda-flash"])
def test_memory_that_runs_out_halves_the_budget_and_no_cell_is_lost(opened, expected, dialect, instances, caplog):
    full = opened(dialect, FailingMemory)
    block = full.batches(toy.tokens_of([24] * 60))
    room = bytes_of(block[0]) // 3  # a quarter of a full batch fits
    engine = opened(dialect, lambda device: FailingMemory(device, room), instances)
    with caplog.at_level(logging.WARNING):
        found = np.concatenate([result.outputs["cell"] for result in engine.run(BLOCKS, COLUMNS)])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert 1024 > engine.batch_tokens >= 128
    assert np.log2(1024 / engine.batch_tokens) % 1 == 0
    told = [record.getMessage() for record in caplog.records]
    assert (
        1 <= len(told) <= np.log2(1024 / engine.batch_tokens)
    )  # one warning each time it is halved, not for each batch
    assert all("ran out" in line and "tokens in a batch instead of" in line for line in told)
    assert told[-1].endswith(f"Goes on with {engine.batch_tokens} tokens in a batch instead of {_before(told[-1])}.")
    later = engine.batches(toy.tokens_of([24] * 60))
    assert all(batch.n_tokens <= engine.batch_tokens for batch in later)


def _before(line: str) -> str:
    return line.rstrip(".").rsplit(" ", 1)[1]


def test_a_large_batch_that_waits_is_cut_before_it_is_tried(opened, expected):
    memory = FailingMemory(room=2000)
    engine = opened("cuda-lengths", lambda device: memory)
    large = engine.batches(toy.tokens_of([24] * 40))
    assert large[0].n_tokens > 500
    engine.infer(large[0])
    failed = memory.calls["staging"]
    engine.infer(large[0])
    assert memory.calls["staging"] <= failed + 1  # nothing was let go of again


def test_a_single_cell_that_does_not_fit_is_an_error_that_says_so(opened):
    engine = opened("cuda-lengths", lambda device: FailingMemory(device, room=600))
    tokens = toy.tokens_of([3, 200])
    (batch,) = engine.batches(tokens)
    with pytest.raises(DeviceMemoryError, match=r"A single cell of 200 tokens does not fit.*ids \(1, 200\)"):
        engine.infer(batch)
    (short,) = engine.batches(toy.tokens_of([3]))
    assert engine.infer(short)["cell"].shape == (1, toy.DIM)


@pytest.mark.parametrize("provider", ["cpu", "openvino", "cuda", "tensorrt"])
def test_a_cell_that_does_not_fit_is_sent_to_a_processor_only_from_a_gpu(opened, provider):
    engine = opened("cuda-lengths", lambda device: FailingMemory(device, room=600))
    engine.choice = replace(engine.choice, provider=provider)
    (batch,) = engine.batches(toy.tokens_of([200]))
    with pytest.raises(DeviceMemoryError, match="A lower --precision needs less") as raised:
        engine.infer(batch)
    assert ("--provider cpu" in str(raised.value)) == (provider in ("cuda", "tensorrt"))


def test_a_single_packed_cell_is_tried_in_smaller_sizes(opened):
    engine = opened("cuda-packed", lambda device: FailingMemory(device, room=5000), batch_tokens=2048)
    tokens = toy.tokens_of([24])
    (batch,) = engine.batches(tokens)
    assert batch.n_tokens == 1024
    assert bytes_of(batch) > 5000
    (found,) = engine.infer(batch)["cell"]
    np.testing.assert_allclose(found, toy.answer(tokens, 0), rtol=1e-6)
    assert engine.batch_tokens < 1024


def test_another_lane_may_have_taken_the_memory_so_a_cell_is_tried_again(opened):
    memory = FailingMemory(on={"take": {1: "CUDA failure 2: out of memory"}})
    engine = opened("cuda-lengths", lambda device: memory)
    tokens = toy.tokens_of([24])
    (batch,) = engine.batches(tokens)
    np.testing.assert_allclose(engine.infer(batch)["cell"][0], toy.answer(tokens, 0), rtol=1e-6)
    assert engine.batch_tokens == 512


def test_blocks_that_were_finished_come_before_a_lost_device_ends_it(opened, expected):
    engine = opened("cuda-lengths", lambda device: FailingMemory(device, on={"wait": {5: LOST}}), batch_tokens=512)
    results = engine.run(BLOCKS, COLUMNS)
    done = []
    with pytest.raises(DeviceLostError, match="stopped working"):
        done.extend(results)
    assert 0 < len(done) < len(BLOCKS)
    found = np.concatenate([result.outputs["cell"] for result in done])
    np.testing.assert_allclose(found, expected[: len(found)], rtol=1e-6)
    with pytest.raises(DeviceLostError):
        next(engine.run(BLOCKS, COLUMNS))


def test_vectors_do_not_depend_on_dialect_lanes_or_budget(opened, expected):
    for dialect in CUDA_DIALECTS:
        for budget in (1, 200, 5000):
            engine = opened(dialect, FailingMemory, 2, budget)
            found = np.concatenate([result.outputs["cell"] for result in engine.run(BLOCKS[:2], COLUMNS)])
            np.testing.assert_allclose(found, expected[: len(found)], rtol=1e-6)
            assert engine.vector_id == replaced(engine).vector_id


def replaced(engine: Engine) -> Engine:
    """The same bundle behind a plain session."""
    choice = replace(engine.choice, dialect="portable")
    return Engine(engine.bundle, engine.bundle.manifest.graphs[0], engine._session, choice, engine.settings)
