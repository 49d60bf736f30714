"""Several instances of a model at work at once: batches in, answers out as they finish.

In: a function that answers a batch, and how many calls of it may run at a time. One thread stands for one
instance. It knows neither models nor blocks.
"""

import atexit
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from numpy.typing import NDArray

from scgpt_runtime.cells import AnyBatch

__all__ = ["Done", "Instances"]

_Tag = TypeVar("_Tag")
_JOIN_SECONDS = 5.0
_at_work: "weakref.WeakSet[Instances[Any]]" = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class Done(Generic[_Tag]):
    """A batch that was answered.

    Attributes
    ----------
    tag
        What it was handed in with.
    batch
        The batch.
    answers
        Output name to array.
    seconds
        Time that the instance worked on it.
    """

    tag: _Tag
    batch: AnyBatch
    answers: dict[str, NDArray[Any]]
    seconds: float


class Instances(Generic[_Tag]):
    """Threads that answer batches. A context manager: leaving it ends the threads, each after the batch it is at.

    Parameters
    ----------
    infer
        Answers one batch; called from several threads at once.
    count
        Number of threads.
    """

    def __init__(self, infer: Callable[[AnyBatch], dict[str, NDArray[Any]]], count: int) -> None:
        self._infer = infer
        self._waiting: queue.SimpleQueue[tuple[_Tag, AnyBatch] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Done[_Tag] | BaseException] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name=f"scgpt-infer instance {number}", daemon=True)
            for number in range(count)
        ]

    def __enter__(self) -> Self:
        _at_work.add(self)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """End the threads, each after the batch it is at."""
        self._stop.set()
        for _ in self._threads:
            self._waiting.put(None)
        until = time.monotonic() + _JOIN_SECONDS
        for thread in self._threads:  # daemons: an instance that hangs must not hang the caller
            thread.join(max(0.0, until - time.monotonic()))
        _at_work.discard(self)

    def hand_in(self, tag: _Tag, batch: AnyBatch) -> None:
        """Queue a batch; it is never refused."""
        self._waiting.put((tag, batch))

    def take(self) -> Done[_Tag]:
        """The next batch to finish, in any order. Waits for it; an error of the instance is raised here."""
        found = self._done.get()
        if isinstance(found, BaseException):
            raise found
        return found

    def answers(self, batches: Iterable[tuple[_Tag, AnyBatch]]) -> Iterator[Done[_Tag]]:
        """Answer a stream of batches, at most two per instance in flight; yields them as they finish."""
        most, flying = 2 * len(self._threads), 0
        for tag, batch in batches:
            self.hand_in(tag, batch)
            flying += 1
            while flying >= most:
                flying -= 1
                yield self.take()
        for _ in range(flying):
            yield self.take()

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None and not self._stop.is_set():
            tag, batch = item
            start = time.perf_counter()
            try:
                answers = self._infer(batch)
            except BaseException as error:  # whatever ends an instance has to reach the caller
                self._done.put(error)
            else:
                self._done.put(Done(tag, batch, answers, time.perf_counter() - start))


@atexit.register
def _end_all() -> None:
    """A thread that is inside the model's library when the interpreter ends would take the process down with it."""
    for instances in list(_at_work):
        instances.end()
