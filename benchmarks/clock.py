"""A device that keeps time, in the place of a model, and the engine around it: all but the model can be measured.

In: a bundle, of which no weight is read, and the seconds that a batch takes. Out: numbers without a meaning, when that
time is over. No GPU takes part. It knows no file of cells.
"""

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import AnyBatch
from scgpt_runtime.engine import Engine
from scgpt_runtime.providers import ProviderChoice
from scgpt_runtime.ranges import RANGE_ROWS
from scgpt_runtime.records import GraphRecord, TensorSpec

__all__ = ["Clock", "engine_of", "narrowed"]

_WEIGHTS = 509
"""A prime, so that the same weights do not meet the same cells again soon."""


class Clock:
    """One device for all lanes, as one GPU is.

    Parameters
    ----------
    dim
        Width of the answers.
    cost
        Seconds that cells of so many tokens take; None: no time at all.
    """

    inputs: tuple[TensorSpec, ...] = ()
    provider = "a clock"

    def __init__(self, dim: int, cost: Callable[[NDArray[np.int64]], float] | None) -> None:
        self._cost = cost
        # Numbers that are alike would be packed to nothing by formats that compress: other ones for each batch.
        draw = np.random.default_rng(0)
        self._answers = draw.standard_normal((RANGE_ROWS, dim), np.float32)
        self._weights = itertools.cycle(draw.random((_WEIGHTS, 1, dim), np.float32) + 1)
        self._told = threading.Lock()
        self._free_at = 0.0
        self.busy = 0.0

    def run(self, batch: AnyBatch) -> dict[str, NDArray[Any]]:
        """An answer, after the batches before it and the time that it takes itself."""
        _ = batch.arrays  # some are made when they are asked for, as a session does
        if self._cost is not None:
            seconds = self._cost(batch.lengths.astype(np.int64))
            with self._told:
                self.busy += seconds
                self._free_at = done = max(self._free_at, time.perf_counter()) + seconds
            time.sleep(max(0.0, done - time.perf_counter()))
        with self._told:
            weights = next(self._weights)
        return {"cell": self._answers[batch.cells % RANGE_ROWS] * weights}

    def feed(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """An answer at once: only batches take time."""
        return {"cell": self._answers[np.arange(len(next(iter(arrays.values())))) % RANGE_ROWS]}

    def close(self) -> None:
        """Nothing is open."""


def engine_of(bundle: Bundle, clock: Clock, route: str = "cuda-packed") -> Engine:
    """An engine that takes the clock for a GPU with two lanes, and lays cells in batches as a dialect asks for."""
    choice = ProviderChoice("cuda", "fp16", "fp16", route, 2, 1, "a clock", (0,))
    return Engine(bundle, bundle.graph("embed", "fp32"), clock, choice, bundle.manifest.tokenizer)


def narrowed(bundle: Bundle, width: int) -> Bundle:
    """The bundle as if its vectors were so wide; vocabulary and settings stay."""
    manifest = bundle.manifest
    graphs = tuple(_narrowed(graph, manifest.dim, width) for graph in manifest.graphs)
    return replace(bundle, manifest=replace(manifest, dim=width, graphs=graphs))


def _narrowed(graph: GraphRecord, dim: int, width: int) -> GraphRecord:
    shapes = [tuple(width if size == dim else size for size in spec.shape) for spec in graph.outputs]
    outputs = tuple(replace(spec, shape=shape) for spec, shape in zip(graph.outputs, shapes, strict=True))
    return replace(graph, outputs=outputs)
