"""The socket of a seat: `Links`, a thread that reads and a thread that writes for each process that is connected.

In: messages. Out: what the seat says to them. It knows nothing of models.
"""

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from scgpt_infer.server.seat.answering import Asker, refused
from scgpt_infer.server.wire import Message, receive, send

__all__ = ["Hears", "Links"]

_BACKLOG = 64

_MOST_BYTES = 256 << 20
"""Of answers that a process has not taken; while there are more, it is not heard, so that they stay bounded."""

_PAUSE_SECONDS = 0.1

_log = logging.getLogger(__name__)


class Hears(Protocol):
    """What messages are given to."""

    def hear(self, asker: Asker, message: Message) -> None:
        """Do what a message asks for."""
        ...

    def leave(self, asker: Asker) -> None:
        """A link has gone."""
        ...


class Links:
    """Listens on a socket that only this user can reach. A context manager.

    Parameters
    ----------
    path
        Of the socket.
    seat
        What hears.
    """

    def __init__(self, path: str, seat: Hears) -> None:
        self._path, self._seat = Path(path), seat
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._links: set[_Link] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, name="scgpt-infer links", daemon=True)

    def __enter__(self) -> Self:
        self._listener.bind(os.fspath(self._path))
        self._listener.listen(_BACKLOG)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self._path.unlink(missing_ok=True)

    @property
    def idle(self) -> bool:
        """Whether no message is being heard, and all that was told is sent."""
        with self._lock:
            links = list(self._links)
        return all(link.idle for link in links)

    def _accept(self) -> None:
        while True:
            try:
                found, _ = self._listener.accept()
            except OSError as error:
                if self._listener.fileno() < 0:  # closed
                    return
                _log.warning("A process could not be connected: %s", error)
                time.sleep(_PAUSE_SECONDS)  # such as for want of file descriptors
                continue
            link = _Link(found, self._seat, self._forget)
            with self._lock:
                self._links.add(link)
            link.start()

    def _forget(self, link: "_Link") -> None:
        with self._lock:
            self._links.discard(link)


class _Link:
    def __init__(self, link: socket.socket, seat: Hears, forget: Callable[["_Link"], None]) -> None:
        self._link, self._seat, self._forget = link, seat, forget
        self._wake = threading.Condition()
        self._outgoing: deque[Message] = deque()
        self._bytes = 0  # of the arrays of what is told and not sent
        self._hearing = self._sending = self._over = False
        self._asker = Asker(self._tell)

    def start(self) -> None:
        for work in (self._read, self._write):
            threading.Thread(target=work, name="scgpt-infer link", daemon=True).start()

    @property
    def idle(self) -> bool:
        with self._wake:
            return self._over or not (self._hearing or self._sending or self._outgoing)

    def _tell(self, message: Message) -> None:
        with self._wake:
            if self._over:
                return
            self._outgoing.append(message)
            self._bytes += _size(message)
            self._wake.notify_all()

    def _end(self) -> None:
        """Nothing more is heard or told; the other thread finds it out."""
        with self._wake:
            self._over = True
            self._outgoing.clear()
            self._wake.notify_all()
        with suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)

    def _read(self) -> None:
        try:
            while (message := receive(self._link)) is not None:
                self._hear(message)
        except OSError as error:
            _log.info("A link broke: %s", error)
        except Exception:  # what was told cannot be read, so nothing after it can
            _log.exception("A link broke.")
        finally:
            self._end()
            self._seat.leave(self._asker)
            self._forget(self)

    def _hear(self, message: Message) -> None:
        with self._wake:
            self._hearing = True
            while self._bytes > _MOST_BYTES and not self._over:
                self._wake.wait()
        try:
            self._seat.hear(self._asker, message)
        finally:
            with self._wake:
                self._hearing = False

    def _write(self) -> None:
        with self._link:
            while (message := self._next()) is not None:
                try:
                    self._send(message)
                except OSError:  # whoever asked is gone
                    break
                with self._wake:
                    self._sending = False
                    self._bytes -= _size(message)
                    self._wake.notify_all()
            self._end()

    def _next(self) -> Message | None:
        with self._wake:
            while not (self._outgoing or self._over):
                self._wake.wait()
            if self._over:
                return None
            self._sending = True
            return self._outgoing.popleft()

    def _send(self, message: Message) -> None:
        try:
            send(self._link, message)
        except OSError:
            raise
        except Exception as error:  # before a byte of it is sent: it cannot be told
            _log.exception("A message of kind %s cannot be told.", message.kind)
            send(self._link, refused(message.fields.get("id"), error))


def _size(message: Message) -> int:
    return sum(array.nbytes for array in message.arrays)
