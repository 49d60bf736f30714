"""The sealed graphs of the CUDA dialects, in lanes on the processor: the bundle's own cells, every kind of batch."""

import numpy as np
import pytest

from scgpt_runtime.bundle import Bundle
from scgpt_runtime.engine import Engine
from scgpt_runtime.errors import ProviderError
from scgpt_runtime.gpu_session import GpuSession
from scgpt_runtime.proof import LIMITS, worst_of
from scgpt_runtime.providers import ProviderChoice


@pytest.fixture(scope="module")
def bundle(tiny_bundle) -> Bundle:
    return Bundle.open(tiny_bundle)


def opened(bundle: Bundle, dialect: str, batch_tokens: int, lanes: int = 2) -> Engine:
    choice = ProviderChoice("cpu", "fp16", "fp16", dialect, lanes, 1, "")
    graph = bundle.graph("embed", "fp16", dialect)
    runner = GpuSession.open(bundle.file(graph.path), choice)
    return Engine(bundle, graph, runner, choice, bundle.manifest.tokenizer, batch_tokens=batch_tokens)


def vectors(engine: Engine, golden) -> np.ndarray:
    (result,) = engine.run([golden.block()], np.arange(len(engine.vocabulary)))
    return result.outputs["cell"]


@pytest.mark.parametrize("dialect", ["cuda-lengths", "cuda-flash", "cuda-exact"])
def test_golden_cells_get_their_vectors_whatever_the_budget(bundle, dialect):
    golden = bundle.golden()
    for batch_tokens in (64, 16384):
        with opened(bundle, dialect, batch_tokens) as engine:
            for _ in range(3):  # as it comes, recorded, replayed
                assert worst_of(golden, vectors(engine, golden)) <= LIMITS["fp16"]


def test_a_route_without_a_kernel_here_is_an_error_not_a_slow_run(bundle):
    with pytest.raises(ProviderError, match=r"cannot open .*PackedMultiHeadAttention"):
        opened(bundle, "cuda-packed", 1024)
