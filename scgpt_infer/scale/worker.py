"""The body of a worker: ranges of rows come in by an `Inbox`, parts go to the disk, marks are told.

The same in a process of this machine and in an actor of a cluster. It knows no transport, and writes no ledger.
"""

import hashlib
import os
import queue
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from scgpt_infer import __version__
from scgpt_infer.facts import Ran
from scgpt_infer.job import Job
from scgpt_infer.ledger.origin import Untouched
from scgpt_infer.ledger.parts import Kept, write_part
from scgpt_infer.ledger.plan import PLAN, Plan
from scgpt_infer.run import answered, peak_bytes
from scgpt_infer.scale.errand import Errand
from scgpt_infer.scale.messages import Begin, Done, Ended, Failed, FromWorker, Ready, Said, Stop, Ticked, ToWorker
from scgpt_infer.scale.seats import Seat
from scgpt_infer.writers.sink import output_errors
from scgpt_runtime.errors import OutputError
from scgpt_runtime.gpus import gpus
from scgpt_runtime.machine import processor
from scgpt_runtime.providers import ProviderChoice

__all__ = ["Inbox", "work"]

_TICK_S = 0.5
_SEEN_WITHIN_S = 15.0
"""A network disk may show a folder to another machine a few seconds late."""

Tell = Callable[[FromWorker], None]


class Inbox:
    """What a worker has been given to do. Filled by another thread than the one that works.

    Attributes
    ----------
    stopping
        Whether it shall end after the range that is at work.
    waited
        Seconds for which nothing was there to be read.
    """

    def __init__(self) -> None:
        self._begin: queue.SimpleQueue[Begin | None] = queue.SimpleQueue()
        self._spans: queue.SimpleQueue[range | None] = queue.SimpleQueue()
        self.stopping, self.waited = False, 0.0

    def put(self, word: ToWorker) -> None:
        """Take a word of the crew."""
        if isinstance(word, Begin):
            self._begin.put(word)
        elif isinstance(word, range):
            self._spans.put(word)
        else:
            self.stopping = self.stopping or isinstance(word, Stop)
            self._begin.put(None)
            self._spans.put(None)

    def begin(self) -> Begin | None:
        """Wait until the work may begin; None when there is none."""
        return self._begin.get()

    def spans(self) -> Iterator[range]:
        """Ranges as they come. The engine reads ahead, and so waits here for the next one while it is at work."""
        while (span := self._next()) is not None and not self.stopping:
            yield span

    def _next(self) -> range | None:
        started = time.perf_counter()
        span = self._spans.get()
        self.waited += time.perf_counter() - started
        return span


def work(errand: Errand, seat: Seat, inbox: Inbox, tell: Tell) -> None:
    """Open cells and model, and do all that comes, until there is no more. Never raises: errors are told.

    Parameters
    ----------
    errand
        Makes the job.
    seat
        What this worker has of its machine.
    inbox
        What it is given.
    tell
        Takes its words; called from this thread alone.
    """
    try:
        with errand.open(seat, lambda line: tell(Said(line))) as job:
            tell(_ready(job))
            begin, writing = inbox.begin(), 0.0
            if begin is not None:
                _check_folder(begin)
                writing = _do(job, begin, inbox, tell)
            seconds = _seconds(job, inbox.waited, writing)
        tell(Ended(seconds, peak_bytes()))
    except BaseException as error:
        inbox.put(Stop())  # a thread that reads ahead waits for ranges
        tell(Failed.of(error))


def _do(job: Job, begin: Begin, inbox: Inbox, tell: Tell) -> float:
    """Do the ranges that come; seconds of writing. What was not read from the input of the plan is not kept."""
    alone, ticks, writing = job.alone(), _Ticks(tell), 0.0
    untouched = Untouched(Plan.read(begin.folder).origin if job.inputs else None, job.inputs)
    if alone.budget is not None:
        alone.budget.keep_to(begin.batch_tokens)
    parts = answered(alone.blocks, alone.engine, alone.columns, alone.task, inbox.spans(), ticks.add)
    for one in parts:
        ticks.flush()
        started = time.perf_counter()
        names = tuple(alone.names(one.part.first_row, one.part.stop))
        untouched.check()
        with output_errors(begin.folder):
            mark = write_part(begin.folder, Kept(one.part, names), begin.dtype, one.longest, alone.batch_tokens)
        writing += time.perf_counter() - started
        tell(Done(mark))
        if inbox.stopping:
            break
    return writing


def _seconds(job: Job, waited: float, writing: float) -> dict[str, float]:
    """By stage; waiting for ranges is no reading, though the engine counts it as that."""
    found = {**job.answers.engine.timings, "write": writing}
    return {**found, "read": max(0.0, found.get("read", 0.0) - waited)}


def _ready(job: Job) -> Ready:
    engine: Ran = job.answers.engine  # type: ignore[assignment]  # an errand computes; stored vectors need no worker
    return Ready(
        where=f"process {os.getpid()} on {socket.gethostname()}",
        version=__version__,
        hardware=_hardware(engine.choice),
        choice=engine.choice,
        settings=engine.settings,
        vector_id=engine.vector_id,
        batch_tokens=engine.batch_tokens,
        n_cells=job.source.n_cells,
        columns=hashlib.sha256(job.answers.columns.tobytes()).hexdigest(),
    )


def _hardware(choice: ProviderChoice) -> str:
    if choice.devices:
        return ", ".join(sorted({gpu.name for gpu in gpus() if gpu.index in choice.devices}))
    found = processor()
    return f"{found.name} ({', '.join(found.features)})"


def _check_folder(begin: Begin) -> None:
    """Make sure that this worker sees the folder that the crew sees."""
    path, end = begin.folder / PLAN, time.monotonic() + _SEEN_WITHIN_S
    while (found := _bytes(path)) != begin.plan:
        if time.monotonic() > end:
            what = "no such file" if found is None else "another file"
            raise OutputError(
                f"{path} is {what} on {socket.gethostname()}. All workers write into this folder, so the output has to "
                "lie on a disk that all machines share, under the same path."
            )
        time.sleep(0.2)


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


class _Ticks:
    """Cells that are answered, told now and then."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._cells, self._told = tell, 0, time.monotonic()

    def add(self, cells: int) -> None:
        self._cells += cells
        if time.monotonic() - self._told >= _TICK_S:
            self.flush()

    def flush(self) -> None:
        if self._cells:
            self._tell(Ticked(self._cells))
        self._cells, self._told = 0, time.monotonic()
