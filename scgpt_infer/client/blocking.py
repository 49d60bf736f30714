"""Steps over a connection that blocks: `Blocking`. Several at a time go through threads, and come back in order.

It knows httpx, and nothing of what is asked.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing, suppress
from socket import SHUT_RDWR, socket
from threading import Event, Semaphore, Thread
from typing import Any, TypeVar
from weakref import WeakSet

import httpx

from scgpt_infer.client.carrying import check_open, headers_of, no_reply, reply_of, timeouts
from scgpt_infer.client.messages import Attempt, NoReply, Pause, Reply, Steps
from scgpt_infer.writers.sink import output_errors

__all__ = ["Blocking"]

T = TypeVar("T")


class Blocking:
    """Takes steps with an `httpx.Client`, which it closes at the end."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._sockets: WeakSet[socket] = WeakSet()

    def run(self, steps: Steps[T], wait: Callable[[float], object] = time.sleep) -> T:
        """Take steps to their end."""
        told: Reply | NoReply | None = None
        with closing(steps):
            while True:
                try:
                    step = steps.send(told)
                except StopIteration as end:
                    found: T = end.value
                    return found
                told = None
                if isinstance(step, Pause):
                    wait(step.seconds)
                else:
                    told = self._sent(step)

    def in_order(self, jobs: Iterator[Steps[T]], most: int) -> Generator[T, None, None]:
        """What jobs end with, in their order, while up to `most` of them are at work."""
        left = Event()
        waiting: deque[Future[T]] = deque()
        room = Semaphore(most)
        try:
            for steps in jobs:
                waiting.append(_begun(self.run, steps, _until(left), room))
                if len(waiting) > most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            left.set()  # an answer that is on its way is nobody's

    def close(self) -> None:
        """Let go of all connections; who waits for an answer is told that there is none."""
        for each in [*self._sockets]:
            with suppress(OSError):  # it is closed already
                socket.shutdown(each, SHUT_RDWR)  # wakes a thread that reads; `close` alone does not
        self._http.close()

    def _sent(self, attempt: Attempt) -> Reply | NoReply:
        request = attempt.request
        check_open(self._http)
        try:
            with ExitStack() as stack:
                body = request.body if isinstance(request.body, bytes) else stack.enter_context(request.body.open("rb"))
                answer = stack.enter_context(
                    self._http.stream(
                        request.method,
                        request.path,
                        params=dict(request.query),
                        headers=headers_of(request),
                        content=body,
                        timeout=timeouts(attempt),
                        extensions={"trace": self._seen},
                    )
                )
                if request.into is None or answer.status_code >= 400:
                    return reply_of(answer, answer.read())
                with output_errors(request.into), request.into.open("wb") as file:
                    for piece in answer.iter_bytes():
                        file.write(piece)
                return reply_of(answer, b"")
        except httpx.RequestError as error:
            return no_reply(error)

    def _seen(self, event: str, told: dict[str, Any]) -> None:
        """Keep sockets by httpcore's events, of which those end so that make a connection."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            found = told["return_value"].get_extra_info("socket")
            if isinstance(found, socket):
                self._sockets.add(found)


class _LeftError(Exception):
    """Nobody waits for the answer any more."""


def _until(left: Event) -> Callable[[float], None]:
    def wait(seconds: float) -> None:
        if left.wait(seconds):
            raise _LeftError

    return wait


def _begun(
    run: Callable[[Steps[T], Callable[[float], None]], T],
    steps: Steps[T],
    wait: Callable[[float], None],
    room: Semaphore,
) -> Future[T]:
    """Take steps in a thread of their own, which an interrupted program does not wait for as it ends."""
    future: Future[T] = Future()

    def work() -> None:
        with room:
            try:
                wait(0)  # whoever asked may have left meanwhile
                future.set_result(run(steps, wait))
            except BaseException as error:  # it is the asker's
                future.set_exception(error)

    Thread(target=work, name="scgpt-infer-client", daemon=True).start()
    return future
