"""Each attention route answers rightly: those that a processor has kernels for here, all of them on a GPU.

Needs scgpt_runtime and onnx, no exporter, no anndata: ``pytest -m gpu tests/runtime/test_gpu_routes.py`` runs on a bare
GPU machine.
"""

import threading
from dataclasses import replace

import numpy as np
import pytest

import route_graphs as routes
from scgpt_runtime.batching import BatchPlan, batches, plan_for
from scgpt_runtime.device_memory import CudaMemory
from scgpt_runtime.errors import DeviceMemoryError
from scgpt_runtime.gpu_session import GpuSession
from scgpt_runtime.manifest import CUDA_DIALECTS
from scgpt_runtime.providers import ProviderChoice

LIMITS = {"fp32": 1e-6, "fp16": 1e-4, "bf16": 1e-3}
WEIGHTS = routes.weights()
LENGTHS = [1, 2, 3, 17, 64, 65, 128, 129, 255, 256, 300, 320, 7, 7, 200, 0, 320, 31]
TOKENS = routes.tokens_of(LENGTHS)
EXPECTED = {cell: routes.answer(WEIGHTS, TOKENS, cell) for cell, length in enumerate(LENGTHS) if length}
ON_GPU = [
    *((dialect, "fp16") for dialect in CUDA_DIALECTS),
    *((dialect, "bf16") for dialect in CUDA_DIALECTS if dialect != "cuda-packed"),
]
ON_CPU = [
    (dialect, precision) for dialect in CUDA_DIALECTS if dialect != "cuda-packed" for precision in ("fp32", "fp16")
]


@pytest.fixture
def opened(tmp_path):
    sessions = []

    def open_one(choice: ProviderChoice, **options) -> GpuSession:
        path = tmp_path / f"{choice.dialect}.{choice.precision}.onnx"
        path.write_bytes(routes.model(WEIGHTS, choice.dialect, choice.precision).SerializeToString())
        sessions.append(GpuSession.open(path, choice, **options))
        return sessions[-1]

    yield open_one
    for session in sessions:
        session.close()


def on(provider: str, dialect: str, precision: str, lanes: int = 2, devices: tuple[int, ...] = ()) -> ProviderChoice:
    return ProviderChoice(provider, precision, precision, dialect, lanes, 1, "", devices)


def vectors(session: GpuSession, plan: BatchPlan, tokens=TOKENS) -> np.ndarray:
    found = np.full((tokens.n_cells, routes.DIM), np.nan, np.float32)
    for batch in batches(tokens, routes.SETTINGS, plan):
        found[batch.cells] = session.run(batch)["cell"]
    return found


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """1 - cosine, by the difference of the unit vectors."""
    units = [row.astype(np.float64) / np.linalg.norm(row.astype(np.float64)) for row in (found, expected)]
    return float(((units[0] - units[1]) ** 2).sum() / 2)


def check(found: np.ndarray, precision: str) -> None:
    worst = {cell: distance(found[cell], row) for cell, row in EXPECTED.items()}
    assert max(worst.values()) <= LIMITS[precision], worst
    assert np.isnan(found[LENGTHS.index(0)]).all()


def plan_of(choice: ProviderChoice, budget: int = 1024) -> BatchPlan:
    return replace(plan_for(replace(choice, provider="cuda"), routes.SETTINGS), budget=budget)


@pytest.mark.parametrize(("dialect", "precision"), ON_CPU)
def test_routes_on_the_processor(opened, dialect, precision):
    choice = on("cpu", dialect, precision)
    session = opened(choice)
    for _ in range(3):
        check(vectors(session, plan_of(choice)), precision)


@pytest.mark.gpu
@pytest.mark.parametrize("records", [True, False])
@pytest.mark.parametrize(("dialect", "precision"), ON_GPU)
def test_routes_on_the_gpu(gpu, opened, dialect, precision, records):
    choice = on("cuda", dialect, precision, devices=(gpu.index,))
    session = opened(choice, records=records)
    assert session.provider.startswith("CUDAExecutionProvider")
    for _ in range(4):  # as it comes, recorded, replayed
        check(vectors(session, plan_of(choice)), precision)
    recorded = [shape.recorded for lane in session._lanes for shape in lane._buffers.shapes.values()]
    assert any(recorded) == records


@pytest.mark.gpu
@pytest.mark.parametrize("dialect", CUDA_DIALECTS)
def test_a_cell_has_one_vector_whatever_stands_beside_it(gpu, opened, dialect):
    choice = on("cuda", dialect, "fp16", devices=(gpu.index,))
    session = opened(choice)
    found = [vectors(session, plan_of(choice, budget)) for budget in (128, 1024, 16384)]
    for cell in EXPECTED:
        assert all(distance(rows[cell], found[0][cell]) <= 1e-4 for rows in found[1:])
    again = [vectors(session, plan_of(choice)) for _ in range(3)]
    assert all(np.array_equal(rows, again[0], equal_nan=True) for rows in again)


@pytest.mark.gpu
@pytest.mark.parametrize("records", [True, False])
@pytest.mark.parametrize("dialect", CUDA_DIALECTS)
def test_lanes_that_work_at_once_do_not_disturb_each_other(gpu, opened, dialect, records):
    choice = on("cuda", dialect, "fp16", lanes=3, devices=(gpu.index,))
    session, failed = opened(choice, records=records), []

    def work() -> None:
        try:
            for budget in (256, 512, 1024) * 4:
                check(vectors(session, plan_of(choice, budget)), "fp16")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failed


@pytest.mark.gpu
def test_fp32_is_not_rounded_to_tf32(gpu, opened):
    choice = on("cuda", "cuda-exact", "fp32", devices=(gpu.index,))
    check(vectors(opened(choice), plan_of(choice)), "fp32")


@pytest.mark.gpu
@pytest.mark.parametrize("records", [True, False])
def test_a_gpu_that_is_full_says_so_and_goes_on_when_it_is_not(gpu, opened, records):
    choice = on("cuda", "cuda-exact", "fp16", lanes=1, devices=(gpu.index,))
    session = opened(choice, records=records)
    check(vectors(session, plan_of(choice)), "fp16")
    runtime = pytest.importorskip("cuda.bindings.runtime")
    hog = CudaMemory(gpu.index)
    hog.start()
    _, free, _ = runtime.cudaMemGetInfo()
    taken = hog.take(free - 512 * 2**20)
    try:
        (large,) = batches(routes.tokens_of([320] * 8192), routes.SETTINGS, BatchPlan("exact", 8192 * 320))
        with pytest.raises(DeviceMemoryError, match=rf"GPU {gpu.index}.*one batch"):
            session.run(large)
        check(vectors(session, plan_of(choice)), "fp16")
    finally:
        hog.give_back(taken)
        hog.end()
    check(vectors(session, plan_of(choice)), "fp16")
