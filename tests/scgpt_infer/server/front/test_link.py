"""A link whose seat goes away says so once, to whoever waits."""

import asyncio
import gc

import numpy as np
import pytest

from scgpt_infer.server.front.link import Link, LinkLost
from scgpt_infer.server.wire import Message

MANY = np.zeros(4 << 20)
"""More than a socket and both ends of it hold."""


def test_a_seat_that_goes_away_while_it_is_being_asked(tmp_path):
    async def work():
        complaints, seats = [], asyncio.Queue()
        asyncio.get_running_loop().set_exception_handler(lambda loop, told: complaints.append(told))
        server = await asyncio.start_unix_server(lambda reader, writer: seats.put(writer), str(tmp_path / "s"))
        link = await Link.open(str(tmp_path / "s"))
        seat = await seats.get()
        asked = asyncio.create_task(link.ask(Message("ask", {}, (MANY,))))
        await asyncio.sleep(0)  # it is at its first wait, which is for the socket to take all
        seat.transport.abort()
        with pytest.raises(LinkLost):
            await asked
        del asked
        await link.lost.wait()
        with pytest.raises(LinkLost):
            await link.ask(Message("ask"))
        link.close()
        server.close()
        gc.collect()
        await asyncio.sleep(0)
        assert complaints == []

    asyncio.run(work())
