"""A front end of a few routes on a real socket, with short limits, for clients that open sockets of their own."""

import asyncio
import json
import socket
from contextlib import asynccontextmanager

import uvloop
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router

from scgpt_infer.server.front.body import body_of
from scgpt_infer.server.front.entry import Entry
from scgpt_infer.server.front.listening import Server
from scgpt_infer.server.settings import ModelAsked, Settings

SHORT = 0.1
MANY = 2**26


def settings_of(**told):
    return Settings(models=(ModelAsked("demo", "demo"),), **told)


@asynccontextmanager
async def served(**told):
    """A server with short limits, and its port."""
    settings = settings_of(**{"header_seconds": SHORT, "body_seconds": SHORT, "max_body_bytes": 1000, **told})

    async def size(request: Request) -> Response:
        return JSONResponse(len(await body_of(request, settings)))

    async def much(request: Request) -> Response:
        return Response(bytes(MANY))

    async def slow(request: Request) -> Response:
        await asyncio.sleep(2 * SHORT)
        return Response()

    async def heads(request: Request) -> Response:
        await body_of(request, settings)
        return JSONResponse([name.decode() for name, _ in request.scope["headers"]])

    routes = [Route("/heads", heads, methods=["POST"]), Route("/size", size, methods=["POST"]), Route("/much", much)]
    routes.append(Route("/slow", slow))
    server = Server(Entry(Router(routes), 8), settings)
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server._serve([listener]))
    try:
        async with asyncio.timeout(30):
            yield server, listener.getsockname()[1]
    finally:
        server.should_exit = True
        await serving


async def exchange(port, *sent):
    """What comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in sent:
        writer.write(piece)
    try:
        return await reader.read()
    finally:
        writer.close()


def parts_of(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def post(length, *more):
    head = ["POST /size HTTP/1.1", "Host: here", f"Content-Length: {length}", *more]
    return "\r\n".join(head).encode() + b"\r\n\r\n"


def run(story, **told):
    async def go():
        async with served(**told) as (_, port):
            await story(port)

    uvloop.run(go())
