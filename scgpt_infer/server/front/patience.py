"""How long a connection may take: `Patient`, uvicorn's protocol of HTTP/1.1 with limits on slow and broken clients.

uvicorn itself has one limit, on connections without a request. It knows bytes and times, no requests.
"""

import asyncio
import http
import socket
import struct
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from scgpt_infer.server import metrics
from scgpt_infer.server.front.refusing import told
from scgpt_infer.server.front.taking import Progress, progress
from scgpt_infer.server.refusals import BadRequest, Refusal, TooSlow

__all__ = ["Patience", "patient"]

_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: on, and zero seconds."""

_GOODBYE_SECONDS: Final = 1.0
"""For a client that has all that was sent to say goodbye too, as TLS asks for; most clients with a pool never do."""
_PIPELINED: Final = 32
"""Requests that a client may send ahead of the answer to one; each costs a hundred times its bytes."""


class HeadTooLarge(Refusal):
    """The head of a request, or what frames its body, is longer than any that is meant well."""

    status, code = 431, "head_too_large"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long things may take.

    Attributes
    ----------
    head_seconds
        From a connection, or the first byte of a further request on it, to the end of the head.
    body_seconds
        For what is left of a body whose request has been answered already, and between two moments at which the client
        takes some bytes of an answer.
    connections
        Most at a time; more are closed at once.
    head_bytes
        Most bytes of a head, and of what comes between two pieces of a body or behind the last. Node, nginx and
        uvicorn's other parser take 16 to 64 KiB.
    """

    head_seconds: float
    body_seconds: float
    connections: int
    head_bytes: int = 2**16


def patient(patience: Patience) -> type[asyncio.Protocol]:
    """The protocol with these limits, as `uvicorn.Config` wants it: a class."""

    class Protocol(Patient):
        limits = patience

    return Protocol


class Patient(HttpToolsProtocol):
    """A connection. It is where its client is: in a head, in a body, or waiting for an answer."""

    limits: ClassVar[Patience]

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._timer: asyncio.TimerHandle | None = None
        self._taker: asyncio.TimerHandle | None = None
        self._in_body = False
        self._framing = 0  # bytes since the last ones that are of a body, or ended a head

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._set(self.limits.head_seconds, self._head_is_late)
        if len(self.connections) > self.limits.connections:
            metrics.refused("", "too_many_connections")
            self._drop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._set(None)
        self._watch_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        waiting = self.cycle is not None and not self.cycle.response_complete
        if not (self._in_body or waiting) and (self._framing == 0 or self._timer is None):
            self._set(self.limits.head_seconds, self._head_is_late)
        self._framing += len(data)
        self._unset_keepalive_if_required()
        self._read(data)
        if self._framing > self.limits.head_bytes:
            where = "around the body" if self._in_body else "of the head"
            self._refuse(HeadTooLarge(f"The request has more than {self.limits.head_bytes:,} bytes {where}."))

    def _read(self, data: bytes) -> None:
        """Have the parser call what is below."""
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as asked:
                # Another protocol is offered, and need not be taken (RFC 9110, 7.8). The parser leaves the body out, so
                # it is given the head once more, without the offer.
                data = self._without_upgrade() + data[asked.args[0] :]
            except httptools.HttpParserError:
                self._refuse(BadRequest("The request is not HTTP/1.1 that can be read here."))
                return
            else:
                return

    def _without_upgrade(self) -> bytes:
        first = b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        lines = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        if len(lines) == len(self.headers):  # CONNECT
            return b"\0"
        return b"\r\n".join([first, *lines, b"\r\n"])

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:  # nobody asks for what stands behind a body, and it might pass for what a proxy has said
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        if len(self.pipeline) >= _PIPELINED:
            raise ValueError("too many requests ahead")  # ends the reading of these bytes
        self._in_body = True
        self._framing = 0
        self._set(None)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._framing = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._in_body = False
        self._framing = 0
        if self.cycle.response_complete:
            self._set(None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_taking()
        elif (
            self._in_body and self.cycle.response_complete
        ):  # refused before its body was read; what comes is thrown away, so that the answer is seen
            self._set(self.limits.body_seconds, self._leave)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_taking()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():  # else what is left has to be taken too
            self._watch_no_more()

    def timeout_keep_alive_handler(self) -> None:
        self._leave()

    def shutdown(self) -> None:
        super().shutdown()
        if self.transport.is_closing():
            self._watch_taking()

    def _head_is_late(self) -> None:
        if self._framing == 0:
            self._leave()
        else:
            self._refuse(TooSlow(f"The head was not there after {self.limits.head_seconds:g} seconds."))

    def _refuse(self, refusal: Refusal) -> None:
        """Answer in place of the application, where it has not begun to, and close."""
        metrics.refused("", refusal.code)
        if self._unanswered() and not self.transport.is_closing():
            status, headers, body = told(refusal, "")
            lines = [b"HTTP/1.1 %d %s" % (status, http.HTTPStatus(status).phrase.encode())]
            lines += [name + b": " + value for name, value in [*headers, (b"connection", b"close")]]
            self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        self._leave()

    def _unanswered(self) -> bool:
        """Whether the request that is being read has no answer yet, and no other waits for one before it."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return not self._in_body
        return self._in_body and not (cycle.response_started or self.pipeline)

    def _leave(self) -> None:
        """Close, when the client has taken what is still to be sent."""
        self._set(None)
        self.transport.close()
        self._watch_taking()

    def _drop(self) -> None:
        """End the connection with all that is still to be sent; by default the kernel would hold it for minutes."""
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.transport.abort()

    def _set(self, seconds: float | None, then: Any = None) -> None:
        """Have something done later, in place of what was to be done."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, then)

    def _watch_taking(self) -> None:
        """See to it that the client takes what is sent, and goes when it has all of it where this side has closed."""
        self._watch_no_more()
        self._look_at_taking(progress(self.transport), self.loop.time())

    def _watch_no_more(self) -> None:
        if self._taker is not None:
            self._taker.cancel()
            self._taker = None

    def _look_at_taking(self, before: Progress, since: float) -> None:
        """Drop a client that is no further than it was at some time before."""
        found, now = progress(self.transport), self.loop.time()
        if found != before:
            since = now
        patience = self.limits.body_seconds if found.left else _GOODBYE_SECONDS
        if now - since < patience:
            self._taker = self.loop.call_later(min(_GOODBYE_SECONDS, patience), self._look_at_taking, found, since)
        elif found.left:
            self._drop()
        else:
            self.transport.abort()
