"""Who does what when: `Worker` has a thread of its own, `Turns` says who may use CUDA.

CUDA forbids calls such as allocating and waiting in the whole process while a stream is recorded in global mode, as
ONNX Runtime does it: they fail, and the recording with them (error 900). So many use it together, or one alone.
"""

import logging
import os
import queue
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from scgpt_runtime.errors import InternalError, ScgptInferError

__all__ = ["Turns", "Worker"]

_Made = TypeVar("_Made")
_log = logging.getLogger(__name__)


class Turns:
    """A lock that many may hold together, or one alone. Whoever wants it alone goes before newcomers."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._together = 0
        self._alone = False
        self._waiting = 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Hold it with others; waits while one holds it, or wants it, alone."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and not self._waiting)
            self._together += 1
        try:
            yield
        finally:
            with self._changed:
                self._together -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold it without any other; waits until all have let go."""
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: not self._alone and not self._together)
            finally:
                self._waiting -= 1
                self._changed.notify_all()
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()


class Worker:
    """Does calls one after the other in a thread of its own."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._ended = False
        # Again in the same thread: while it is held, the collector may end another's worker, or this one.
        self._guard = threading.RLock()
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def here(self) -> bool:
        """Whether the thread belongs to this process: a fork takes none along."""
        return os.getpid() == self._process

    def do(self, function: Callable[..., _Made], *arguments: Any) -> _Made:
        """Call a function there, and give what it gives or raise what it raises."""
        future: Future[_Made] = Future()
        with self._guard:
            if self._ended:
                raise InternalError("A lane to a device was used after it was closed.")
            self._calls.put(partial(_answer, future, function, arguments))
        try:
            return future.result()
        finally:
            del future  # with the error that it holds, and this frame that the error holds, it would be a circle

    def end(self, last: Callable[[], None], seconds: float) -> None:
        """Call a last function and end the thread; a call that hangs is waited for so long and no longer.

        With 0 seconds it may be called in any thread, that of the worker too.
        """

        def call() -> None:
            try:
                last()
            except Exception as error:
                _log.debug("A lane did not end in order: %s", error)

        with self._guard:
            if not self._ended:
                self._ended = True
                self._calls.put(call)
                self._calls.put(None)
        if seconds:
            self._thread.join(seconds)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            del call


def _answer(future: Future[_Made], function: Callable[..., _Made], arguments: tuple[Any, ...]) -> None:
    """Call a function, and hand over what it gives or raises."""
    try:
        future.set_result(function(*arguments))
    except BaseException as error:  # whatever ends a call has to reach the caller
        future.set_exception(_without_frames(error))


def _without_frames(error: BaseException) -> BaseException:
    """An error as another thread may keep it: its frames would keep what they name, such as a session, as long.

    Where they were is kept as text: in a note on what may be a bug, in the log at DEBUG for all.
    """
    bug = isinstance(error, InternalError) or not isinstance(error, ScgptInferError)
    if bug or _log.isEnabledFor(logging.DEBUG):
        text = "".join(traceback.format_exception(error))
        _log.debug("%s", text)
        if bug:
            error.add_note(f"In thread {threading.current_thread().name!r}:\n{text.rstrip()}")
    links: list[BaseException | None] = [error]
    seen: set[int] = set()  # errors may be each other's cause in a circle
    while links:
        link = links.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            link.__traceback__ = None
            links += [link.__context__, link.__cause__]
    return error
