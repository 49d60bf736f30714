"""Steps over a connection that is awaited: `Awaiting`. Several at a time are tasks, and come back in order.

It knows httpx, and nothing of what is asked. Files and cells are read in threads, so that the event loop never waits.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any, TypeVar

import httpx

from scgpt_infer.client.carrying import check_open, headers_of, no_reply, reply_of, timeouts
from scgpt_infer.client.messages import Attempt, NoReply, Pause, Reply, Steps
from scgpt_infer.writers.sink import output_errors

__all__ = ["Awaiting", "in_thread"]

T = TypeVar("T")

_PIECE = 2**18


class Awaiting:
    """Takes steps with an `httpx.AsyncClient`, which it closes at the end."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def run(self, steps: Steps[T]) -> T:
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
                    await asyncio.sleep(step.seconds)
                else:
                    told = await self._sent(step)

    async def in_order(self, jobs: Iterator[Steps[T]], most: int) -> AsyncGenerator[T, None]:
        """What jobs end with, in their order, while up to `most` of them are at work."""
        waiting: deque[asyncio.Task[T]] = deque()
        try:
            while (steps := await in_thread(next, jobs, None)) is not None:
                waiting.append(asyncio.create_task(self.run(steps)))
                if len(waiting) == most:
                    yield await waiting.popleft()
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def close(self) -> None:
        """Let go of all connections."""
        await self._http.aclose()

    async def _sent(self, attempt: Attempt) -> Reply | NoReply:
        request = attempt.request
        check_open(self._http)
        try:
            async with AsyncExitStack() as stack:
                answer = await stack.enter_async_context(
                    self._http.stream(
                        request.method,
                        request.path,
                        params=dict(request.query),
                        headers=headers_of(request),
                        content=request.body if isinstance(request.body, bytes) else _bytes_of(request.body),
                        timeout=timeouts(attempt),
                    )
                )
                if request.into is None or answer.status_code >= 400:
                    return reply_of(answer, await answer.aread())
                with output_errors(request.into), request.into.open("wb") as file:
                    async for piece in answer.aiter_bytes():
                        await asyncio.to_thread(file.write, piece)
                return reply_of(answer, b"")
        except httpx.RequestError as error:
            return no_reply(error)


async def _bytes_of(path: Path) -> AsyncIterator[bytes]:
    """The bytes of a file, piece by piece."""
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, _PIECE):
            yield piece


async def in_thread(work: Callable[..., T], *given: Any) -> T:
    """What a thread makes; who is cancelled meanwhile waits for its end, since it uses what will be closed."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *given))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
