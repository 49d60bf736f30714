"""What those who watch a server ask: ``/livez``, ``/readyz``, ``/metrics``."""

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from scgpt_infer.server import metrics
from scgpt_infer.server.front.door import Door

__all__ = ["routes"]


def routes(door: Door) -> list[BaseRoute]:
    """The routes of this module.

    ``/livez`` answers while a front end runs. ``/readyz`` answers 200 when an inference of each model that was asked
    for at the start has passed, and 503 before, and when the server is about to end. ``/metrics`` is for Prometheus.
    """
    one_at_a_time = asyncio.Lock()

    async def livez(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        models = [
            {"name": one.name, "state": one.state} | ({"reason": one.reason} if one.reason else {})
            for one in door.desk.statuses()
        ]
        ready = door.desk.ready
        told = {"status": "ready" if ready else "not ready", "models": models}
        return JSONResponse(told, status_code=200 if ready else 503)

    async def exposition(request: Request) -> Response:
        async with one_at_a_time:  # nobody needs a key for it, and each takes the interpreter from requests
            text, kind = await asyncio.to_thread(metrics.exposition)  # it reads the files of every process
        return Response(text, headers={"content-type": kind})

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", exposition)]
