"""A job's turn on this server: `take` holds its lease, has a process do it, and ends it or leaves it for later.

In: a job, the socket of its model. Out: files of the job. It does not look for jobs.
"""

import logging
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from scgpt_infer.ledger.lock import Lock
from scgpt_infer.server.jobs.child import Child
from scgpt_infer.server.jobs.errand import Advanced, Done, Errand, Failed, Lost, Said, Stopped, Word
from scgpt_infer.server.jobs.records import Ended, Job, Made, Progress
from scgpt_infer.server.jobs.store import JobStore
from scgpt_infer.server.jobs.wording import as_owned
from scgpt_runtime.errors import OutputError

__all__ = ["TRIES", "Terms", "take"]

TRIES: Final = 5
"""A job whose process ends without a word so often, with no cell more each time, is at fault itself."""

_LOOK_S = 0.5
_SILENT_S = 1800.0
"""A process that says nothing for so long hangs: a block of 1,024 of the longest cells takes minutes on one core."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Terms:
    """How jobs are worked on.

    Attributes
    ----------
    most_bytes
        Most bytes of all jobs together.
    memory_bytes
        Most memory that a job's process may take.
    grace
        Seconds that a process has to end after its block when the server ends; asked again while it is waited for.
    beat, patience
        See `Lock.take`.
    """

    most_bytes: int = 2**62
    memory_bytes: int = 16 * 2**30
    grace: Callable[[], float] = lambda: 30.0
    beat: float = 5.0
    patience: float = 30.0


def take(store: JobStore, job: Job, socket: Path, terms: Terms, stopping: Callable[[], bool]) -> None:
    """Do a job, if nobody else is at it.

    Parameters
    ----------
    store
        Where it is.
    job
        One that has not ended.
    socket
        Where its model's process listens.
    terms
        How it is worked on.
    stopping
        Whether this server is about to end: what is done is kept, and the job goes on at the next start, or on
        another server.
    """
    try:
        with Lock.take(job.lock, beat=terms.beat, patience=terms.patience, say=_log.info) as lease:
            found = store.find(job.id)
            if found is None and (job.folder / "job.json").exists():
                _log.info("job %s is left alone: its files are of another version", job.id)
            elif found is None:
                _log.info("job %s is gone", job.id)
                shutil.rmtree(job.folder, ignore_errors=True)  # the lock has made it anew
            elif found.ended is None:
                _Turn(store, found, socket, terms, stopping, lease).do()
    except OutputError as error:  # another server is at it, or took it over
        _log.info("job %s is left alone: %s", job.id, error)


@dataclass(slots=True)
class _Turn:
    store: JobStore
    job: Job
    socket: Path
    terms: Terms
    stopping: Callable[[], bool]
    lease: Lock

    def do(self) -> None:
        self._tell(replace(self.job.progress, tries=self.job.progress.tries + 1))
        if self.job.progress.tries > TRIES:  # not even its end was told
            self._end("failed", f"The work was begun {TRIES} times and came to nothing.")
            return
        _log.info("job %s begins: %s", self.job.id, self.job.submitted.asked)
        with Child(self._errand()) as child:
            word = self._followed(child) or (Lost(child.fate()) if child.ended else Stopped())
        if self.store.is_ended(self.job):
            self.store.tidy(self.job)
            return
        match word:
            case Done(summary):
                self._end("succeeded", None, summary)
            case Failed(error):
                self._end("failed", error)
            case Lost() if self.stopping():
                self._tell(replace(self.job.progress, tries=0))
            case Lost(reason, waits=True):
                _log.warning("job %s waits: %s", self.job.id, reason)
                self._tell(replace(self.job.progress, tries=min(self.job.progress.tries, TRIES - 1)))
            case Lost(reason) if self.job.progress.tries >= TRIES:
                self._end("failed", f"The work ended early {TRIES} times, at last so: {reason}.")
            case Lost(reason):
                _log.warning("job %s is tried again: %s", self.job.id, reason)
            case Stopped():  # as it was asked to
                self._tell(replace(self.job.progress, tries=0))

    def _followed(self, child: Child) -> Word | None:
        """Hear a process to its last word; None where it ended without one, or was ended."""
        heard, stopped = time.monotonic(), math.inf
        while not child.ended:
            word = child.next(_LOOK_S)
            if isinstance(word, Done | Failed | Lost | Stopped):
                return word
            if word is not None:
                heard = time.monotonic()
                self._note(word)
            if self.store.is_ended(self.job):  # cancelled
                return None
            self.lease.check()
            if time.monotonic() - heard > _SILENT_S:
                return Failed(f"The work said nothing for {_SILENT_S:.0f} s and was ended.")
            if self.stopping() and stopped == math.inf:
                child.stop()
                stopped = time.monotonic()
            if time.monotonic() > stopped + self.terms.grace():
                return None
        return None

    def _note(self, word: Advanced | Said) -> None:
        if isinstance(word, Said):
            _log.info("job %s: %s", self.job.id, word.line)
            return
        more = word.done > self.job.progress.cells_done
        self._tell(Progress(word.done, word.cells, 0 if more else self.job.progress.tries))

    def _tell(self, progress: Progress) -> None:
        self.store.tell(self.job, progress)
        self.job = replace(self.job, progress=progress)

    def _errand(self) -> Errand:
        room = self.terms.most_bytes - self.store.used_bytes()
        return Errand(
            asked=self.job.submitted.asked,
            upload=str(self.job.upload),
            results=str(self.job.results),
            socket=str(self.socket),
            home=os.getcwd(),
            room_bytes=max(0, room),
            memory_bytes=self.terms.memory_bytes,
        )

    def _end(self, state: str, error: str | None, summary: dict[str, object] | None = None) -> None:
        """End the job, if it is still ours to end."""
        self.lease.check()
        ended = Ended(
            state="succeeded" if state == "succeeded" else "failed",
            at=time.time(),
            error=None if error is None else as_owned(error, self.job),
            made=_made(self.job) if state == "succeeded" else (),
            summary=as_owned(summary or {}, self.job),
        )
        if self.store.end(self.job, ended):
            _log.info("job %s %s%s", self.job.id, state, "" if error is None else f": {error}")


def _made(job: Job) -> tuple[Made, ...]:
    """What a job has made, the result first."""
    files = [file for file in job.results.iterdir() if file.is_file() and not file.name.startswith(".")]
    files.sort(key=lambda file: (file.name != job.submitted.asked.result, file.name))
    return tuple(Made(file.name, file.stat().st_size) for file in files)
