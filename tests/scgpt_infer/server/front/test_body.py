import asyncio
import gzip
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from scgpt_infer.server.front import body
from scgpt_infer.server.front.body import body_of
from scgpt_infer.server.front.limits import Limits, Stay
from scgpt_infer.server.refusals import BadRequest, TooLarge, TooSlow, UnsupportedMedia
from scgpt_infer.server.settings import ModelAsked, Settings

BODY = b"cells of one request " * 5_000  # more than is inflated at a time


def settings_of(**told: Any) -> Settings:
    return Settings(models=(ModelAsked("demo", "demo"),), **told)


def request_of(*pieces: bytes | None, **headers: str) -> Request:
    """A request whose body comes in pieces; None: the client leaves. Without more pieces it says nothing more."""
    told = list(pieces)

    async def receive() -> dict[str, Any]:
        if not told:
            await asyncio.Event().wait()
        piece = told.pop(0)
        if piece is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": bool(piece)}

    stay = Stay(Limits(8), "lab", arriving=True)
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": named, "state": {"stay": stay}}, receive)


def read(*pieces: bytes | None, settings: Settings | None = None, **headers: str) -> bytes:
    return asyncio.run(body_of(request_of(*pieces, **headers), settings or settings_of()))


def bare(sent: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(sent) + deflater.flush()


@pytest.mark.parametrize(
    ("coding", "compressed"),
    [
        ("identity", bytes),
        ("gzip", gzip.compress),
        ("GZIP", lambda sent: gzip.compress(sent[:70_000]) + gzip.compress(sent[70_000:])),
        ("deflate", zlib.compress),
        ("deflate", bare),
    ],
)
def test_a_body_is_inflated_as_it_was_sent(coding: str, compressed: Callable[[bytes], bytes]) -> None:
    sent = compressed(BODY)
    assert read(sent[:100], sent[100:], b"", content_encoding=coding) == BODY


def test_a_body_that_is_announced_too_large_is_refused_before_it_is_read() -> None:
    with pytest.raises(TooLarge, match="more than the 10 bytes"):
        read(settings=settings_of(max_body_bytes=10), content_length="11")


def test_a_body_that_does_not_say_its_size_is_read_up_to_the_limit() -> None:
    assert read(b"12345", b"67890", b"", settings=settings_of(max_body_bytes=10)) == b"1234567890"
    with pytest.raises(TooLarge):
        read(b"12345", b"678901", settings=settings_of(max_body_bytes=10))


def test_a_bomb_is_refused_at_the_limit() -> None:
    with pytest.raises(TooLarge):
        read(gzip.compress(bytes(50_000_000)), b"", content_encoding="gzip", settings=settings_of(max_body_bytes=10**6))


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (gzip.compress(BODY)[:-9], "ends in the middle"),
        (b"no gzip", "is not gzip"),
        (gzip.compress(b"") * 10_001, "members"),
    ],
)
def test_what_is_not_gzip_is_told_so(sent: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        read(sent, b"", content_encoding="gzip")


def test_other_encodings_and_odd_lengths_are_refused() -> None:
    with pytest.raises(UnsupportedMedia, match="'br'"):
        read(b"", content_encoding="br")
    with pytest.raises(BadRequest, match="Content-Length"):
        read(b"", content_length="-1")


def test_a_slow_client_is_told_so() -> None:
    with pytest.raises(TooSlow, match=r"4 bytes were there when its time was over: 0\.01 seconds"):
        read(b"half", settings=settings_of(body_seconds=0.01))


def test_a_body_that_trickles_is_ended_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "_GRACE_SECONDS", 0.01)
    with pytest.raises(TooSlow, match="at least 500 bytes a second"):
        read(b"half")


def test_a_client_that_leaves_in_the_middle() -> None:
    with pytest.raises(ClientDisconnect):
        read(b"half", None)
