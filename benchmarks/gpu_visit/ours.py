"""Our side: the ways to run a bundle's ``embed`` graphs on a device, opened one at a time.

In: a bundle and a `Way`. Out: a runner, and the vectors of tokens. Everything goes through scgpt_runtime, as users run
it; only the choice is made here, since the runtime would choose one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu_visit.part import Ask
from scgpt_runtime.answering import GraphRunner
from scgpt_runtime.batching import batches, plan_for
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import AnyBatch, TokenBlock
from scgpt_runtime.gpu_session import GpuSession
from scgpt_runtime.instances import Instances
from scgpt_runtime.manifest import CUDA_DIALECTS
from scgpt_runtime.providers import ProviderChoice
from scgpt_runtime.runners import graph_for

__all__ = ["LANES", "Way", "choice_of", "opened", "packed_for", "taken", "vectors_of", "ways"]

LANES = 2
"""Sessions at a time, as the runtime has them on a GPU: one is fed and read while the other computes."""

PRECISIONS = ("fp16", "bf16", "fp32")

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run our model.

    Attributes
    ----------
    provider, precision, dialect
        As the runtime names them.
    recorded
        Whether recurring shapes are replayed as CUDA graphs.
    """

    provider: str
    precision: str
    dialect: str
    recorded: bool = True

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.precision} {self.dialect}" + ("" if self.recorded else ", no CUDA graph")

    @property
    def fields(self) -> dict[str, Any]:
        """For rows."""
        return {name: getattr(self, name) for name in ("provider", "precision", "dialect", "recorded")}


def ways(bundle: Bundle, ask: Ask) -> list[Way]:
    """What is sealed, the way to expect most of first."""
    sealed = {(graph.precision, graph.dialect) for graph in bundle.manifest.graphs if graph.task == "embed"}
    dialects = (*CUDA_DIALECTS, "portable")
    found = [(precision, dialect) for precision in PRECISIONS for dialect in dialects if (precision, dialect) in sealed]
    # A portable graph has nodes for the processor too, so it cannot be recorded.
    return [Way(ask.provider, precision, dialect, dialect != "portable") for precision, dialect in found]


def choice_of(way: Way, lanes: int = LANES) -> ProviderChoice:
    """The runtime's own word for a way."""
    devices = (0,) if way.provider == "cuda" else ()
    return ProviderChoice(way.provider, way.precision, way.precision, way.dialect, lanes, 1, "as measured", devices)


@contextmanager
def opened(bundle: Bundle, way: Way, lanes: int = LANES) -> Iterator[GraphRunner]:
    """A way's graph, open; closed at the end."""
    choice = choice_of(way, lanes)
    path = bundle.file(graph_for(bundle, "embed", choice).path)
    runner = GpuSession.open(path, choice, records=way.recorded)
    try:
        yield runner
    finally:
        runner.close()


def packed_for(bundle: Bundle, way: Way, tokens: TokenBlock, budget: int | None = None) -> list[AnyBatch]:
    """Tokens as the batches that the runtime would make of them."""
    settings = bundle.manifest.tokenizer
    return batches(tokens, settings, plan_for(choice_of(way), settings, budget))


def vectors_of(runner: GraphRunner, packed: list[AnyBatch], n_cells: int, lanes: int = LANES) -> Vectors:
    """(n_cells, dim) vectors of all batches, so many at a time."""
    rows: Vectors | None = None
    with Instances[None](runner.run, lanes) as instances:
        for done in instances.answers((None, batch) for batch in packed):
            (answer,) = done.answers.values()
            if rows is None:
                rows = np.full((n_cells, answer.shape[1]), np.nan, np.float32)
            rows[done.batch.cells] = answer
    assert rows is not None
    return rows


def taken(tokens: TokenBlock, cells: NDArray[np.int64]) -> TokenBlock:
    """Some cells, in the order in which they are named."""
    lengths = np.diff(tokens.offsets)[cells]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    at = np.repeat(tokens.offsets[cells] - offsets[:-1], lengths) + np.arange(offsets[-1])
    return TokenBlock(tokens.ids[at], tokens.values[at], offsets, tokens.faults[cells], 0)
