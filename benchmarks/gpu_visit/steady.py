"""A steady batch, for Nsight Compute to look at: ``python -m benchmarks.gpu_visit.steady ASK PRECISION DIALECT``.

The batch is run a few times, then once between the profiler's start and stop. It prints nothing.
"""

import importlib
import sys
from pathlib import Path

from benchmarks.gpu_visit.bundle import bundle_of
from benchmarks.gpu_visit.lengths import one_length
from benchmarks.gpu_visit.ours import Way, opened, packed_for
from benchmarks.gpu_visit.part import Ask
from scgpt_runtime.answering import GraphRunner
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import AnyBatch

__all__ = ["LENGTH", "TOKENS", "batch_of", "main"]

LENGTH = 1200
TOKENS = 16384


def batch_of(ask: Ask, bundle: Bundle, way: Way) -> AnyBatch:
    """One full batch of the longest cells."""
    count = max(1, TOKENS // LENGTH)
    tokens = one_length(count, LENGTH, len(bundle.vocabulary()), bundle.manifest.tokenizer, ask.seed)
    return packed_for(bundle, way, tokens, TOKENS)[0]


def main(arguments: list[str]) -> None:
    """Run it."""
    ask = Ask.load(Path(arguments[0]))
    bundle = Bundle.open(bundle_of(ask))
    way = Way(ask.provider, arguments[1], arguments[2], recorded=False)
    with opened(bundle, way, lanes=1) as runner:
        batch = batch_of(ask, bundle, way)
        for _ in range(3):
            runner.run(batch)
        _watched(runner, batch)


def _watched(runner: GraphRunner, batch: AnyBatch) -> None:
    runtime = importlib.import_module("cuda.bindings.runtime")
    runtime.cudaProfilerStart()
    runner.run(batch)
    runtime.cudaProfilerStop()


if __name__ == "__main__":
    main(sys.argv[1:])
