"""Messages between the processes of one server: `Message`, arrays with a few fields, over local sockets.

A message is two lengths, its fields as MessagePack, then the bytes of its arrays. Nothing in it is code: no pickle. It
knows neither what messages mean nor who sends them.
"""

import asyncio
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.errors import InternalError

__all__ = ["Message", "packed", "read", "receive", "send"]

_HEAD = struct.Struct("<IQ")
_ALIGNED = 8
_PIECES = 512  # buffers of one system call; Linux takes 1,024


@dataclass(frozen=True, slots=True)
class Message:
    """What one process tells another.

    Attributes
    ----------
    kind
        What it is.
    fields
        Numbers, texts, bytes, lists and dicts of these.
    arrays
        C-contiguous arrays of numbers.
    """

    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    arrays: Sequence[NDArray[Any]] = ()


def packed(message: Message) -> list[bytes | memoryview]:
    """The bytes of a message, in pieces; those of its arrays are not copied."""
    arrays = [np.ascontiguousarray(array) for array in message.arrays]
    shapes = [(array.dtype.str, array.shape) for array in arrays]
    head = msgspec.msgpack.encode((message.kind, message.fields, shapes))
    pieces: list[bytes | memoryview] = [b"", head]
    for array in arrays:
        if array.nbytes:
            pieces.append(array.data.cast("B"))
            pieces.append(bytes(-array.nbytes % _ALIGNED))
    pieces[0] = _HEAD.pack(len(head), sum(map(len, pieces[2:])))
    return [piece for piece in pieces if len(piece)]


def send(link: socket.socket, message: Message) -> None:
    """Send a message; waits until the socket has taken it. One thread at a time may send.

    Raises
    ------
    OSError
        The other side is gone.
    """
    pieces = [memoryview(piece) for piece in packed(message)]
    while pieces:
        sent = link.sendmsg(pieces[:_PIECES])
        while pieces and sent >= len(pieces[0]):
            sent -= len(pieces.pop(0))
        if sent:
            pieces[0] = pieces[0][sent:]


def receive(link: socket.socket) -> Message | None:
    """The next message, or None when the other side has closed the link.

    Raises
    ------
    OSError
        The link broke, in the middle of a message too.
    """
    head = bytearray(_HEAD.size)
    if not _fill(link, head, may_end=True):
        return None
    n_head, n_body = _HEAD.unpack(head)
    fields, body = bytearray(n_head), bytearray(n_body)
    _fill(link, fields)
    _fill(link, body)
    return _unpacked(fields, body)


async def read(stream: asyncio.StreamReader) -> Message | None:
    """As `receive`, of a stream of asyncio."""
    try:
        head = await stream.readexactly(_HEAD.size)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise ConnectionResetError("The link broke in the middle of a message.") from error
        return None
    n_head, n_body = _HEAD.unpack(head)
    try:
        fields = await stream.readexactly(n_head)
        body = await stream.readexactly(n_body) if n_body else b""
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("The link broke in the middle of a message.") from error
    return _unpacked(fields, body)


def _fill(link: socket.socket, buffer: bytearray, *, may_end: bool = False) -> bool:
    """Fill a buffer; False where the other side closed the link before its first byte, and may."""
    view, filled = memoryview(buffer), 0
    while filled < len(buffer):
        got = link.recv_into(view[filled:])
        if got == 0:
            if may_end and filled == 0:
                return False
            raise ConnectionResetError("The link broke in the middle of a message.")
        filled += got
    return True


def _unpacked(head: bytes | bytearray, body: bytes | bytearray) -> Message:
    kind, fields, shapes = msgspec.msgpack.decode(head)
    arrays, start = [], 0
    for dtype, shape in shapes:
        count = int(np.prod(shape, dtype=np.int64))
        array = np.frombuffer(body, np.dtype(dtype), count, start).reshape(shape)
        arrays.append(array)
        start += array.nbytes + -array.nbytes % _ALIGNED
    if start != len(body):
        raise InternalError(f"A message of kind {kind} has {len(body)} bytes of arrays, and tells of {start}.")
    return Message(kind, fields, tuple(arrays))
