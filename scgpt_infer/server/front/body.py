"""The body of a request: `body_of` reads it within the limits of a server, and inflates what was sent compressed.

It knows nothing of what a body says.
"""

import asyncio
import zlib

from starlette.requests import Request

from scgpt_infer.server.front.limits import Stay
from scgpt_infer.server.refusals import BadRequest, TooLarge, TooSlow, UnsupportedMedia
from scgpt_infer.server.settings import Settings

__all__ = ["body_of", "length_of"]

_PLAIN = ("", "identity")
_GZIP = ("gzip", "x-gzip")
_GRACE_SECONDS, _LEAST_RATE = 20.0, 500
"""Of a body: so long for any, and no fewer bytes a second on the whole beyond (Apache's RequestReadTimeout)."""
_AT_ONCE = 2**16
"""Compressed bytes that are inflated at a time; more than that have a thread, beside which zlib lets others run."""
_TIMES = 16
"""What a body is counted as while it is inflated, in sizes of what was sent: JSON of cells becomes 4 to 10 times."""
_MEMBERS = 10_000
"""Of one body. Each costs time whatever it holds, and 64 MiB in blocks of 64 KiB, as bgzip writes, have 1,000."""


async def body_of(request: Request, settings: Settings) -> bytes:
    """The whole body of a request, inflated where it came as ``Content-Encoding: gzip`` or ``deflate`` (RFC 9110).

    Its bytes are counted among those that this server keeps in memory, and the request has a place to be worked on when
    all are there: ``request.state.stay``.

    Raises
    ------
    TooLarge
        It has more bytes than `Settings.max_body_bytes`, sent or inflated.
    TooSlow
        It was not there after `Settings.body_seconds`, or comes so slowly that it will not be.
    QueueFull
        There is no memory for it, or no place.
    UnsupportedMedia
        It is compressed in another way.
    BadRequest
        It is not what its headers say.
    starlette.requests.ClientDisconnect
        The client left before its end.
    """
    most = settings.max_body_bytes
    coding = request.headers.get("content-encoding", "").strip().lower()
    if coding not in (*_PLAIN, *_GZIP, "deflate"):
        raise UnsupportedMedia(f"The body is encoded as {coding!r}; expected gzip, deflate or no Content-Encoding.")
    if (length_of(request) or 0) > most:
        raise _too_large(most)
    stay: Stay = request.state.stay
    body = await _read(request, most, settings.body_seconds, stay)
    if coding not in _PLAIN:
        sent, likely = len(body), min(most, _TIMES * len(body))
        stay.keep(likely)
        body = (
            await asyncio.to_thread(_inflated, body, coding, most) if sent > _AT_ONCE else _inflated(body, coding, most)
        )
        stay.drop(sent + likely)
        stay.keep(len(body))
    stay.work()
    return body


def length_of(request: Request) -> int | None:
    """Bytes that the header tells of the body; None where it tells nothing.

    Raises
    ------
    BadRequest
        It tells something else than a number.
    """
    told = request.headers.get("content-length")
    if told is None:
        return None
    if not (told.isascii() and told.isdigit()):
        raise BadRequest(f"Content-Length is {told!r}; expected a number of bytes.")
    return int(told)


async def _read(request: Request, most: int, seconds: float, stay: Stay) -> bytes:
    """The bytes as they were sent, in time."""
    pieces, size = [], 0
    began = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(min(seconds, _GRACE_SECONDS)) as patience:
            async for piece in request.stream():
                size += len(piece)
                if size > most:
                    raise _too_large(most)
                stay.keep(len(piece))
                pieces.append(piece)
                patience.reschedule(began + min(seconds, _GRACE_SECONDS + size / _LEAST_RATE))
    except TimeoutError:
        raise TooSlow(
            f"Of the body {size:,} bytes were there when its time was over: {seconds:g} seconds, and at least "
            f"{_LEAST_RATE} bytes a second. Send fewer cells at a time, or binary."
        ) from None
    return b"".join(pieces)


def _inflated(body: bytes, coding: str, most: int) -> bytes:
    """The bytes that were compressed; never makes more than the limit and one."""
    pieces: list[bytes] = []
    start, room = 0, most + 1
    for _ in range(_MEMBERS):
        inflater = zlib.decompressobj(_window(body, coding))
        while start < len(body) and not inflater.eof:
            given = body[start : start + _AT_ONCE]
            try:
                pieces.append(inflater.decompress(given, room))
            except zlib.error as error:
                raise BadRequest(f"The body is not {coding}, as its Content-Encoding says: {error}.") from error
            start += len(given) - len(inflater.unconsumed_tail) - len(inflater.unused_data)
            room -= len(pieces[-1])
            if room <= 0:
                raise _too_large(most)
        if start == len(body):
            if body and not inflater.eof:
                raise BadRequest(f"The body ends in the middle of its {coding} data.")
            return b"".join(pieces)
    raise BadRequest(f"The body has more than {_MEMBERS:,} members of {coding}. Compress it as one.")


def _window(body: bytes, coding: str) -> int:
    """What zlib must be told of the format: "deflate" is zlib's by the standard, and bare by some clients."""
    if coding in _GZIP:
        return 16 + zlib.MAX_WBITS
    wrapped = len(body) > 1 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0  # RFC 1950, 2.2
    return zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS


def _too_large(most: int) -> TooLarge:
    return TooLarge(
        f"The body has more than the {most:,} bytes that this server takes. Send fewer cells at a time; whole files "
        "are for /v1/jobs, where the server has it."
    )
