"""What goes into a link comes out of it."""

import asyncio
import socket
import threading

import numpy as np
import pytest

from scgpt_infer.server.wire import Message, packed, read, receive, send

MESSAGE = Message(
    "ask",
    {"id": 3, "text": "é", "bytes": b"\x00\xff", "list": [1, 2.5, None], "none": None},
    (
        np.arange(5, dtype=np.int64),
        np.zeros((0, 4), np.float32),
        np.arange(70_001, dtype=np.uint8),
        np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2],
    ),
)


def same(found):
    assert (found.kind, dict(found.fields)) == (MESSAGE.kind, MESSAGE.fields)
    for one, other in zip(found.arrays, MESSAGE.arrays, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_a_message_goes_over_a_socket_whole_and_several_in_order():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        thread = threading.Thread(target=lambda: [send(ours, MESSAGE) for _ in range(3)])
        thread.start()
        for _ in range(3):
            same(receive(theirs))
        thread.join()
        ours.close()
        assert receive(theirs) is None


def test_a_stream_of_asyncio_reads_the_same():
    async def work():
        stream = asyncio.StreamReader()
        stream.feed_data(b"".join(bytes(piece) for piece in packed(MESSAGE)) * 2)
        stream.feed_eof()
        same(await read(stream))
        same(await read(stream))
        assert await read(stream) is None

    asyncio.run(work())


@pytest.mark.parametrize("kept", [3, 20, 200])
def test_half_a_message_is_an_error_and_not_an_end(kept):
    whole = b"".join(bytes(piece) for piece in packed(MESSAGE))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(whole[:kept])
        ours.close()
        with pytest.raises(ConnectionError, match="broke"):
            receive(theirs)

    async def work():
        stream = asyncio.StreamReader()
        stream.feed_data(whole[:kept])
        stream.feed_eof()
        with pytest.raises(ConnectionError, match="broke"):
            await read(stream)

    asyncio.run(work())
