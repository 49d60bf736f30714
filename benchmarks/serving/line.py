"""One connection of a client that costs as little as it can: `Line`, HTTP/1.1 over asyncio's bare protocol.

Bytes of a request in, `Told` out. It knows little of an answer: its status, its length, when to try again, and how long
the model took.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Self, cast

__all__ = ["Line", "Told"]

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_INFER = re.compile(rb"\r\nserver-timing:[^\r]*infer;dur=([\d.]+)", re.IGNORECASE)
_RETRY = re.compile(rb"\r\nretry-after: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Told:
    """What came back.

    Attributes
    ----------
    status
        Of HTTP.
    n_bytes
        Of the body.
    retry_after
        Seconds; 0 where the answer does not say.
    infer_ms
        Milliseconds that the model took; 0 where the answer does not say.
    """

    status: int
    n_bytes: int
    retry_after: int
    infer_ms: float


class Line(asyncio.Protocol):
    """A connection that is kept; one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Told] | None = None
        self._head = b""
        self._told = Told(0, 0, 0, 0.0)
        self._left = 0

    @classmethod
    async def to(cls, host: str, port: int) -> Self:
        """A connection that is open."""
        _, line = await asyncio.get_running_loop().create_connection(cls, host, port)
        return line

    async def ask(self, request: bytes) -> Told:
        """Send a request and wait for its answer.

        Raises
        ------
        ConnectionError
            The server closed the connection before it had answered.
        """
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("The connection is closed.")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is none by its class

    def data_received(self, data: bytes) -> None:
        """Take a piece of an answer."""
        if not self._left:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data = self._head[:end], self._head[end + 4 :]
            self._head = b""
            length, retry, infer = (found.search(head) for found in (_LENGTH, _RETRY, _INFER))
            n_bytes = int(length[1]) if length else 0
            self._told = Told(
                int(head[9:12]), n_bytes, int(retry[1]) if retry else 0, float(infer[1]) if infer else 0.0
            )
            self._left = n_bytes
        self._left -= len(data)
        if self._left <= 0 and self._answer is not None:
            answer, self._answer, self._left = self._answer, None, 0
            answer.set_result(self._told)

    def connection_lost(self, error: Exception | None) -> None:
        """End."""
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("The connection was closed before the answer."))
