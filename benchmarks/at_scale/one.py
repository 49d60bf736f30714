"""One run in a process of its own: an order as JSON on standard input, what was found as JSON on standard output.

``python -m benchmarks.at_scale.one``. Cells go the way that ``scgpt-infer embed`` takes them, to a finished output,
with a clock in the place of the model.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.at_scale.generated import Generated
from benchmarks.at_scale.rounds import Rounds
from benchmarks.at_scale.watch import Watch
from benchmarks.clock import Clock, engine_of, narrowed
from scgpt_infer import models
from scgpt_infer.answers import computed
from scgpt_infer.facts import Facts
from scgpt_infer.job import Job
from scgpt_infer.keeping import Filled, Filler
from scgpt_infer.ledger.folder import Ledger
from scgpt_infer.model import Model
from scgpt_infer.options import EmbedOptions
from scgpt_infer.readers import CellSource, open_cells
from scgpt_infer.tasks.embed import Embedding
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.engine import Engine
from scgpt_runtime.vocab import choose, is_special

__all__ = ["GENES", "Found", "Order", "genes_of", "job_of", "measured"]

GENES = 13_656
"""Columns of pbmc3k's matrix; where a vocabulary has fewer genes, all of them."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be run.

    Attributes
    ----------
    n_cells
        Cells of the run.
    suffix
        Format of the output.
    bundle
        Name or path; its vocabulary and settings count.
    width
        Numbers of a vector; 0: those of the bundle.
    cells
        A file that is read round after round; empty: cells are generated.
    token_seconds
        Time of the clock for a token; None: no clock, but the model of the bundle itself, and no rounds.
    folder
        Where output and parts go.
    """

    n_cells: int
    suffix: str
    bundle: str
    width: int
    cells: str
    token_seconds: float | None
    folder: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a run took.

    Attributes
    ----------
    seconds, parts_seconds
        From the open cells to the finished output, and to the last part.
    processor_seconds
        Time of all cores meanwhile.
    stages
        Seconds by stage until the last part; they overlap.
    busy
        Share of the time in which the clock was at work; None without one.
    tokens
        Mean tokens of a cell; None without a clock.
    peak, pss
        Most memory of the process as the kernel marks it, and the most proportional set size that was seen; bytes.
    parts_bytes, output_bytes
        On the disk: of all parts, and of the output.
    """

    seconds: float
    parts_seconds: float
    processor_seconds: float
    stages: dict[str, float]
    busy: float | None
    tokens: float | None
    peak: int
    pss: int
    parts_bytes: int
    output_bytes: int


def genes_of(bundle: Bundle) -> list[str]:
    """Names of the columns of generated cells: all known to the bundle."""
    return [name for name in bundle.vocabulary().tokens if not is_special(name)][:GENES]


def measured(order: Order) -> Found:
    """Do a run and tell what it took."""
    with tempfile.TemporaryDirectory(dir=order.folder) as folder, _opened(order) as (job, clock):
        path, filler = Path(folder) / f"out{order.suffix}", _Timed(job.alone())
        with Watch() as watch:
            before, started = os.times(), time.perf_counter()
            job.into_file(path, filler=filler)
            seconds, used = time.perf_counter() - started, os.times()
        return Found(
            seconds=seconds,
            parts_seconds=filler.ended - started,
            processor_seconds=used.user + used.system - before.user - before.system,
            stages=filler.stages,
            busy=None if clock is None else clock.busy / seconds,
            tokens=None if clock is None else clock.tokens / order.n_cells,
            peak=watch.peak,
            pss=watch.pss,
            parts_bytes=filler.bytes,
            output_bytes=sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()),
        )


@contextmanager
def _opened(order: Order) -> Iterator[tuple[Job, "_Counting | None"]]:
    """The job of embedding the cells: by a clock, or by the model."""
    if order.token_seconds is None:
        options = EmbedOptions(limit=order.n_cells)
        with open_cells(order.cells) as source, Model.open(order.bundle, options) as model:
            yield model.job(source), None
        return
    bundle = models.resolve(order.bundle)
    bundle = narrowed(bundle, order.width) if order.width else bundle
    clock = _Counting(bundle.manifest.dim, order.token_seconds)
    with _source(order, bundle) as source, engine_of(bundle, clock) as engine:
        yield job_of(source, bundle, engine, EmbedOptions()), clock


def job_of(source: CellSource, bundle: Bundle, engine: Engine, options: EmbedOptions) -> Job:
    """The job of embedding the cells of an open source by an engine, whatever stands in the place of its model."""
    facts = Facts(bundle, engine, source, choose(source.gene_names, engine.vocabulary), options)
    answers = computed(facts)
    return Job(source, answers, Embedding(answers.vectors), options)


class _Counting(Clock):
    """A clock of one time for each token that counts them."""

    def __init__(self, dim: int, token_seconds: float) -> None:
        super().__init__(dim, self._cost)
        self._token_seconds, self.tokens = token_seconds, 0

    def _cost(self, lengths: Any) -> float:
        tokens = int(lengths.sum())
        self.tokens += tokens
        return tokens * self._token_seconds


class _Timed:
    """Notes when the last part was kept, what each stage took until then, and the bytes of all parts."""

    def __init__(self, filler: Filler) -> None:
        self._filler = filler
        self.ended, self.bytes, self.stages = 0.0, 0, dict[str, float]()

    def __call__(self, ledger: Ledger, tick: Callable[[int], None]) -> Filled:
        found = self._filler(ledger, tick)
        self.ended, self.stages = time.perf_counter(), dict(found.seconds)
        self.bytes = sum(mark.size for mark in ledger.marks.values())
        return found


def _source(order: Order, bundle: Bundle) -> CellSource:
    if order.cells:
        return Rounds(open_cells(order.cells), order.n_cells)
    return Generated(order.n_cells, genes_of(bundle))


def main() -> None:
    """Read the order, answer it."""
    found = measured(Order(**json.load(sys.stdin)))
    print(json.dumps(asdict(found)), flush=True)


if __name__ == "__main__":
    main()
