import asyncio
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from scgpt_infer.server.front.leaving import unless_gone


class Client:
    """The other end of a request that has been sent; `leave` closes it."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.request = Request({"type": "http", "method": "POST", "headers": []}, self._receive)

    def leave(self) -> None:
        self.left.set()

    async def _receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}


class Work:
    """Work that goes on until it is stopped."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.stopped = False

    async def __call__(self) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.stopped = True
            raise


def test_work_for_a_client_that_left_is_stopped() -> None:
    async def story() -> None:
        client, work = Client(), Work()
        handler = asyncio.create_task(unless_gone(client.request, work()))
        await work.began.wait()
        client.leave()
        with pytest.raises(ClientDisconnect):
            await handler
        assert work.stopped
        assert not handler.cancelled()

    asyncio.run(story())


def test_a_client_that_stays_is_answered_and_watched_no_more() -> None:
    async def story() -> None:
        client = Client()
        assert await unless_gone(client.request, asyncio.sleep(0, "answer")) == "answer"
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(story())


def test_an_error_of_the_work_is_told_as_it_is() -> None:
    async def fail() -> None:
        raise ValueError("of the work")

    with pytest.raises(ValueError, match="of the work"):
        asyncio.run(_with_a_client(fail))


async def _with_a_client(work: Any) -> None:
    await unless_gone(Client().request, work())


def test_a_server_that_ends_cancels_for_good() -> None:
    async def story() -> None:
        client, work = Client(), Work()
        handler = asyncio.create_task(unless_gone(client.request, work()))
        await work.began.wait()
        handler.cancel()
        with pytest.raises(asyncio.CancelledError):
            await handler
        assert work.stopped

    asyncio.run(story())
