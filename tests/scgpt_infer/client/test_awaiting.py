"""Programs with an event loop that let go of what they have begun."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

import pytest

from scgpt_infer.client import AsyncClient, async_client

_WITHIN_S = 20.0


def test_cells_that_are_being_opened_when_nobody_wants_them_any_more_are_closed(monkeypatch):
    opening, may_open, closed = Event(), Event(), []

    @contextmanager
    def slow(*given: object) -> Iterator[tuple[None, None]]:
        opening.set()
        assert may_open.wait(_WITHIN_S)
        try:
            yield None, None
        finally:
            closed.append(True)

    async def run() -> None:
        async with AsyncClient("http://server") as client:
            task = asyncio.create_task(client.embed("cells.h5ad"))
            assert await asyncio.to_thread(opening.wait, _WITHIN_S)
            task.cancel()
            await asyncio.sleep(0)
            may_open.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert closed == [True]

    monkeypatch.setattr(async_client, "opened", slow)
    asyncio.run(run())
