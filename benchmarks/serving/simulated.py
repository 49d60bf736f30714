"""What a seat opens in the place of a model: a clock that answers so many cells a second, whatever their length.

Everything else is a seat's own: tokens, the fair queue, batches. Vectors are as wide as the bundle's, and mean nothing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.clock import Clock, engine_of
from scgpt_infer import models
from scgpt_infer.options import EmbedOptions
from scgpt_infer.server.seat.opening import Opened
from scgpt_infer.server.seat.spec import Spec

__all__ = ["OPENER", "RATE", "open_clock"]

OPENER = "benchmarks.serving.simulated:open_clock"

RATE = "SCGPT_INFER_SIMULATED_CELLS_PER_SECOND"
"""Environment variable with the cells that the clock answers in a second; 0: it takes no time."""


@contextmanager
def open_clock(spec: Spec) -> Iterator[Opened]:
    """A model of which no weight is read."""
    bundle = models.resolve(spec.path)
    rate = float(os.environ[RATE])
    clock = Clock(bundle.manifest.dim, (lambda lengths: len(lengths) / rate) if rate else None)
    with engine_of(bundle, clock) as engine:
        yield Opened(bundle, engine, None, EmbedOptions(), 0, 0.0)
