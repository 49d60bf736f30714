"""What looks for work: `loop`, in one process of each server, takes jobs in turn and sweeps away old ones.

In: the store, where models answer. Out: nothing; the work shows in the store. It opens neither files nor models.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from scgpt_infer.ledger.lock import holder_of
from scgpt_infer.server import metrics
from scgpt_infer.server.jobs.records import Job, State
from scgpt_infer.server.jobs.store import JobStore
from scgpt_infer.server.jobs.turn import Terms, take

__all__ = ["loop"]

_LOOK_S = 0.5
_SWEEP_S = 60.0

_log = logging.getLogger(__name__)

Places = Callable[[], Mapping[str, Path]]
"""Sockets of the models that answer now, by name."""


def loop(store: JobStore, places: Places, terms: Terms, stop: threading.Event, *, workers: int, ttl: float) -> None:
    """Work on jobs until it is to stop; then what is at work is kept, and left for later.

    Parameters
    ----------
    store
        The jobs.
    places
        Where models answer; a job of another model waits, or is for another server.
    terms
        How they are worked on.
    stop
        Ends it.
    workers
        Jobs that are worked on at a time.
    ttl
        Seconds for which an ended job is kept.
    """
    swept, at_work, resting = -_SWEEP_S, dict[str, _Turn](), _Resting(terms.patience)
    with ThreadPoolExecutor(workers, thread_name_prefix="scgpt-infer job") as threads:
        while not stop.wait(_LOOK_S):
            with _enduring():
                for turn in [turn for turn in at_work.values() if turn.future.done()]:
                    del at_work[turn.job.id]
                    resting.rest(turn.job, store)
                jobs = store.all()
                _count(jobs)
                for job, socket in _next(jobs, places(), at_work, resting, workers):
                    future = threads.submit(_take, store, job, socket, terms, stop.is_set)
                    at_work[job.id] = _Turn(job, future)
                if time.monotonic() - swept >= _SWEEP_S:
                    swept = time.monotonic()
                    store.sweep(ttl)


@dataclass(frozen=True, slots=True)
class _Turn:
    job: Job
    future: Future[None]


@dataclass(slots=True)
class _Resting:
    """Jobs that are not to be taken yet: another server is at them, or they were tried just now."""

    patience: float
    until: dict[str, float] = field(default_factory=dict)
    locks: dict[str, tuple[bytes, float]] = field(default_factory=dict)

    def rest(self, job: Job, store: JobStore) -> None:
        """Let a job rest whose turn is over: the longer the oftener it was tried in vain."""
        found = store.find(job.id)
        if found is not None and found.ended is None:
            self.until[job.id] = time.monotonic() + 2.0**found.progress.tries

    def is_free(self, job: Job) -> bool:
        """Whether a job may be taken. A lock of another is watched, by this process's clock, until it stands still."""
        now = time.monotonic()
        if now < self.until.get(job.id, 0.0):
            return False
        held = _held(job.lock)
        if held is None or holder_of(job.lock) is None:
            self.locks.pop(job.id, None)
            return True
        before, since = self.locks.get(job.id, (b"", now))
        if before != held:
            since = now
        self.locks[job.id] = (held, since)
        return now - since > self.patience

    def forget(self, known: set[str]) -> None:
        """Keep nothing of jobs that are over."""
        for kept in (self.until, self.locks):
            for name in [name for name in kept if name not in known]:
                del kept[name]


def _next(
    jobs: Sequence[Job], places: Mapping[str, Path], at_work: Mapping[str, object], resting: _Resting, workers: int
) -> list[tuple[Job, Path]]:
    """Jobs to be taken: of the owner for whom least is done, the oldest first."""
    open_ones = [job for job in jobs if job.ended is None]
    resting.forget({job.id for job in open_ones})
    running = Counter(job.submitted.owner for job in open_ones if job.id in at_work)
    waiting = [job for job in open_ones if job.id not in at_work and job.submitted.asked.model in places]
    waiting = [job for job in waiting if resting.is_free(job)]
    found: list[tuple[Job, Path]] = []
    while waiting and len(at_work) + len(found) < workers:
        job = min(waiting, key=lambda job: running[job.submitted.owner])  # of equals the first, which is the oldest
        waiting.remove(job)
        running[job.submitted.owner] += 1
        found.append((job, places[job.submitted.asked.model]))
    return found


def _take(store: JobStore, job: Job, socket: Path, terms: Terms, stopping: Callable[[], bool]) -> None:
    with _enduring():
        take(store, job, socket, terms, stopping)


def _count(jobs: Sequence[Job]) -> None:
    counts = Counter(job.state for job in jobs)
    for state in get_args(State):
        metrics.jobs(state, counts[state])


def _held(lock: Path) -> bytes | None:
    try:
        return lock.read_bytes()
    except OSError:
        return None


@contextmanager
def _enduring() -> Iterator[None]:
    """Go on, whatever a disk or a single job does: other jobs wait."""
    try:
        yield
    except Exception:
        _log.exception("Looking for jobs, or working on one, failed; it is tried again.")
