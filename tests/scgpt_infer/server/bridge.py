"""An ASGI application in the place of a network, for clients that block: ``httpx.Client(transport=Bridge(app))``.

All requests run in the event loop of one thread, as they do in a server. A context manager.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import httpx


class Bridge(httpx.BaseTransport):
    def __init__(self, app) -> None:
        self._asgi = httpx.ASGITransport(app)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        if not self._thread.is_alive():
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(_ended(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        body = request.read()
        return asyncio.run_coroutine_threadsafe(self._answer(request, body), self._loop).result()

    async def _answer(self, request: httpx.Request, body: bytes) -> httpx.Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield body

        sent = httpx.Request(request.method, request.url, headers=request.headers, content=pieces())
        answer = await self._asgi.handle_async_request(sent)
        return httpx.Response(
            answer.status_code, headers=answer.headers, stream=httpx.ByteStream(await _all(answer.stream))
        )


async def _all(stream) -> bytes:
    return b"".join([piece async for piece in stream])


async def _ended() -> None:
    """Wait for what nobody waits for any more."""
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)
