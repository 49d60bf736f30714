"""Work on large bodies beside other requests: `aside`."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

__all__ = ["AT_ONCE", "aside"]

AT_ONCE = 2**20
"""Bytes that are read or written where the loop waits for them."""

Done = TypeVar("Done")


async def aside(n_bytes: int, work: Callable[[], Done]) -> Done:
    """Do some work; much of it in a thread, so that other requests go on."""
    return await asyncio.to_thread(work) if n_bytes > AT_ONCE else work()
