"""The page at ``/``, for people: files of `scgpt_infer.server.page`, with headers that let nothing else in."""

from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from scgpt_infer.server.front.door import Door

__all__ = ["routes"]

_OWN = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; frame-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FRAME = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""Of the frame of a report: scripts of its own, an origin of its own, no network. A report narrows it further."""


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the page."""

    path: str
    package: str
    name: str
    kind: str
    policy: str = _OWN


_FILES: Final = (
    _File("/", "server.page", "index.html", "text/html"),
    _File("/page/frame.html", "server.page", "frame.html", "text/html", _FRAME),
    _File("/page/page.js", "server.page", "page.js", "text/javascript"),
    _File("/page/card.js", "server.page", "card.js", "text/javascript"),
    _File("/page/server.js", "server.page", "server.js", "text/javascript"),
    _File("/page/page.css", "server.page", "page.css", "text/css"),
    _File("/page/style.css", "pages", "style.css", "text/css"),
)


def routes(door: Door) -> list[BaseRoute]:
    """Routes of the page; none where the operator did not ask for it.

    Parameters
    ----------
    door
        Models and settings.
    """
    if not door.settings.ui:
        return []
    return [Route(file.path, partial(_given, *_answer(file)), methods=["GET"]) for file in _FILES]


def _answer(file: _File) -> tuple[bytes, dict[str, str]]:
    held = files(f"scgpt_infer.{file.package}").joinpath(file.name).read_bytes()
    return held, {
        "Content-Type": f"{file.kind}; charset=utf-8",
        "Content-Security-Policy": file.policy,
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-cache",
    }


async def _given(held: bytes, headers: dict[str, str], request: Request) -> Response:
    return Response(held, headers=headers)
