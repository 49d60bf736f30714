"""``/openapi.json``: what this server answers, for clients and for tools that make them."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from scgpt_infer.server.front.door import Door
from scgpt_infer.server.openapi import description

__all__ = ["routes"]


def routes(door: Door) -> list[BaseRoute]:
    """The route of this module."""
    told = msgspec.json.encode(description(door.settings))

    async def openapi(request: Request) -> Response:
        return Response(told, media_type="application/json")

    return [Route("/openapi.json", openapi)]
