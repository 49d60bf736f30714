"""Clients that leave before their answer: `unless_gone` stops the work for them and frees their place in the queue.

It knows nothing of what is awaited.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

__all__ = ["unless_gone"]

Answered = TypeVar("Answered")


async def unless_gone(request: Request, awaitable: Awaitable[Answered]) -> Answered:
    """Wait for something as long as the client waits for it too.

    Parameters
    ----------
    request
        Its body must have been read: what still comes of it is thrown away.
    awaitable
        Is cancelled when the client closes the connection.

    Raises
    ------
    starlette.requests.ClientDisconnect
        The client is gone.
    """
    asking = asyncio.current_task()
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        if asking is not None:
            asking.cancel()

    watching = asyncio.create_task(watch())
    try:
        return await awaitable
    except asyncio.CancelledError:
        # As `asyncio.timeout` does: a cancellation from elsewhere, at the same time, goes on.
        if gone and asking is not None and asking.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        watching.cancel()
