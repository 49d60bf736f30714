"""Tasks that are no matter of single cells, one after the other in a thread of their own: `Calling`.

In: a task's name and its body. Out: a document. Clients take turns. It knows neither sockets nor the tasks.
"""

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from scgpt_infer.interrupts import Unwanted, wanted_by
from scgpt_infer.server.refusals import Expired, QueueFull
from scgpt_runtime.errors import BundleChangedError, DeviceLostError

__all__ = ["Call", "Calling"]

Do = Callable[[str, bytes], bytes]
End = Callable[[bytes | None, Exception | None], None]

_WAIT = 16
"""Calls that may wait: each may hold many cells."""

_EACH = _WAIT // 2
"""Calls of one client that may wait, so that it leaves room for another."""

_WEIGHT = 0.3
"""Of the newest call in the seconds that one takes."""

_JOIN_SECONDS = 5.0

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Call:
    """A task that somebody waits for.

    Attributes
    ----------
    task, body
        What is to be done.
    client
        Whose turn it counts for.
    until
        When nobody wants the answer any more, on the clock of `time.monotonic`. None: never.
    end
        Told the document, or the error; never, where the call was cancelled.
    gone
        Whether nobody waits for it.
    """

    task: str
    body: bytes
    client: str
    until: float | None
    end: End
    gone: bool = False

    def expired(self) -> bool:
        """Whether the answer would come too late."""
        return self.until is not None and time.monotonic() >= self.until


class Calling:
    """Does calls, a client's one after another's. A context manager.

    Parameters
    ----------
    do
        Does one: its task and body to a document.
    lost
        Told when the device stopped working, the model is not what it was, or turns cannot be given any more; it ends
        the process, so that whoever waits asks another one.
    """

    def __init__(self, do: Do, lost: Callable[[Exception], None]) -> None:
        self._do, self._lost = do, lost
        self._wake = threading.Condition()
        self._clients: OrderedDict[str, deque[Call]] = OrderedDict()
        self._seconds: float | None = None
        self._busy = self._ended = False
        self._thread = threading.Thread(target=self._run, name="scgpt-infer calls", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._wake:
            self._ended = True
            self._wake.notify_all()
        self._thread.join(_JOIN_SECONDS)

    @property
    def idle(self) -> bool:
        """Whether nothing waits, and all that was done is told."""
        with self._wake:
            return not (self._clients or self._busy)

    def put(self, call: Call) -> None:
        """Take a call in; it ends by `Call.end`, in any thread.

        Raises
        ------
        QueueFull
            Too many wait. The error says after how many seconds those will be done that wait now.
        """
        with self._wake:
            if self._full(call.client):
                self._expire()
            if self._full(call.client):
                own, waiting = len(self._clients.get(call.client, ())), self._waiting
                raise QueueFull(
                    f"{waiting} calls wait already, {own} of this client; {_WAIT} may, {_EACH} of one client. "
                    "Try again later.",
                    max(1.0, (self._seconds or 1.0) * waiting),
                )
            self._clients.setdefault(call.client, deque()).append(call)
            self._wake.notify_all()

    def cancel(self, call: Call) -> None:
        """Let go of a call whose answer nobody wants. One that is being done ends where its task looks for that."""
        with self._wake:
            call.gone = True
            self._remove(call)

    @property
    def _waiting(self) -> int:
        return sum(map(len, self._clients.values()))

    def _full(self, client: str) -> bool:
        return self._waiting >= _WAIT or len(self._clients.get(client, ())) >= _EACH

    def _expire(self) -> None:
        for call in [call for calls in self._clients.values() for call in calls if call.expired()]:
            self._remove(call)
            _late(call)

    def _remove(self, call: Call) -> None:
        calls = self._clients.get(call.client)
        if calls is not None and call in calls:
            calls.remove(call)
            if not calls:
                del self._clients[call.client]

    def _run(self) -> None:
        try:
            while (call := self._next()) is not None:
                self._answer(call)
                with self._wake:
                    self._busy = False
        except Exception as error:
            _log.exception("No more calls can be done.")
            self._lost(error)

    def _next(self) -> Call | None:
        """The call whose turn it is; waits for one. None when all is over."""
        with self._wake:
            while not self._ended:
                if self._clients:
                    client, calls = next(iter(self._clients.items()))
                    call = calls[0]
                    self._remove(call)
                    if client in self._clients:
                        self._clients.move_to_end(client)
                    self._busy = True
                    return call
                self._wake.wait()
        return None

    def _answer(self, call: Call) -> None:
        if call.expired():
            _late(call)
            return
        started = time.monotonic()
        try:
            with wanted_by(lambda: not call.gone):
                answer = self._do(call.task, call.body)
        except Unwanted:
            return
        except (BundleChangedError, DeviceLostError):
            raise
        except Exception as error:
            if not call.gone:
                call.end(None, error)
            return
        seconds = time.monotonic() - started  # of those that were answered: what is refused is refused at once
        self._seconds = seconds if self._seconds is None else self._seconds + _WEIGHT * (seconds - self._seconds)
        if not call.gone:
            call.end(answer, None)


def _late(call: Call) -> None:
    call.end(None, Expired("The time by which the answer was wanted has passed while the call was waiting."))
