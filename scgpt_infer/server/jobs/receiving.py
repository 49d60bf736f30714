"""An upload on its way to the disk: `received`, pieces of a body in, a file out. A body is never held in memory.

It knows limits of size and time; what is in the file is looked at when it is whole.
"""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scgpt_infer.server.jobs.store import JobStore
from scgpt_infer.server.refusals import BadRequest, NoRoom, TooLarge, TooSlow
from scgpt_infer.sizes import size
from scgpt_runtime.errors import OutputError

__all__ = ["Bounds", "received", "telling_full"]

_PIECE = 4 << 20
_LOOK_BYTES = 256 << 20
"""An upload that did not tell its size is measured against the room that is left each time that so much came."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of uploads.

    Attributes
    ----------
    file_bytes
        Most bytes of one.
    all_bytes
        Most bytes of all jobs together.
    silent_seconds
        Longest time without a byte.
    """

    file_bytes: int
    all_bytes: int
    silent_seconds: float


async def received(body: AsyncIterator[bytes], told: int | None, file: Path, store: JobStore, bounds: Bounds) -> int:
    """Write a body into a file; gives its size.

    Parameters
    ----------
    body
        Its pieces.
    told
        Bytes that it will have, if it says so: room for them is kept from the beginning.
    file
        Where it goes; its folder is there.
    store
        The jobs that share the room.
    bounds
        Limits.

    Raises
    ------
    TooLarge, NoRoom, TooSlow, BadRequest
        It is larger than a file may be, or there is no room for it, or it does not come, or there is nothing in it.
    """
    _check_size(told or 0, bounds)
    await asyncio.to_thread(_check_room, store, told or 0, bounds)
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.truncate(handle, told or 0)
        written = await _written(body, handle, store, bounds, told)
        await asyncio.to_thread(_settled, handle, written)
    finally:
        os.close(handle)
    if not written:
        raise BadRequest("The body is empty; expected the bytes of the file.")
    return written


@contextmanager
def telling_full() -> Iterator[None]:
    """Turn what a full disk says into `NoRoom`."""
    try:
        yield
    except (OSError, OutputError) as error:
        cause = error.__cause__ if isinstance(error, OutputError) else error
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoRoom("The server's disk is full. Try again later, or tell its operator.") from error
        raise


async def _written(body: AsyncIterator[bytes], handle: int, store: JobStore, bounds: Bounds, told: int | None) -> int:
    waiting, written, looked = bytearray(), 0, 0
    while (piece := await _next(body, bounds.silent_seconds)) is not None:
        waiting += piece
        _check_size(written + len(waiting), bounds)
        if len(waiting) >= _PIECE:
            written += await asyncio.to_thread(_write, handle, bytes(waiting))
            waiting.clear()
        if told is None and written - looked >= _LOOK_BYTES:
            looked = written
            await asyncio.to_thread(_check_room, store, 0, bounds)
    return written + await asyncio.to_thread(_write, handle, bytes(waiting))


async def _next(body: AsyncIterator[bytes], seconds: float) -> bytes | None:
    try:
        async with asyncio.timeout(seconds):
            return await anext(body, None)
    except TimeoutError as error:
        raise TooSlow(f"Nothing of the file came for {seconds:g} s. Send it again.") from error


def _check_size(n_bytes: int, bounds: Bounds) -> None:
    if n_bytes > bounds.file_bytes:
        raise TooLarge(
            f"The file has more than {size(bounds.file_bytes)}, the most that this server takes. Send parts of it, or "
            "leave out what is not needed (layers, raw)."
        )


def _check_room(store: JobStore, more: int, bounds: Bounds) -> None:
    used = store.used_bytes()
    if used + more > bounds.all_bytes:
        raise NoRoom(
            f"Jobs take {size(used)} of {size(bounds.all_bytes)}, so there is no room for this file. Remove jobs that "
            "are done (DELETE), or try again later."
        )


def _write(handle: int, piece: bytes) -> int:
    view = memoryview(piece)
    while view:
        view = view[os.write(handle, view) :]
    return len(piece)


def _settled(handle: int, written: int) -> None:
    os.truncate(handle, written)
    os.fsync(handle)
