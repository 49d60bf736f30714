"""Both clients against the routes of a server without a model, whose answers depend on a cell's genes and values."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anndata as ad
import httpx

from scgpt_infer.client import AsyncClient, Client, Retry
from scgpt_infer.server.asking import Ask
from scgpt_infer.server.front.app import app_of
from scgpt_infer.server.front.door import Door
from scgpt_infer.server.settings import ModelAsked, Settings
from tests.scgpt_infer.server.bridge import Bridge
from tests.scgpt_infer.server.fake_desk import FakeDesk

N_CELLS = 90
BAD = 7
SOON = Retry(first=0.0)


@dataclass
class Server:
    """A server, and what a test may do to the road to it."""

    desk: FakeDesk
    bridge: Bridge
    before: Callable[[httpx.Request], httpx.Response | None] = field(default=lambda request: None)
    seen: list[httpx.Request] = field(default_factory=list)
    each: int = 20

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        told = self.before(request)
        return self.bridge.handle_request(request) if told is None else told

    def client(self, **terms: Any) -> Client:
        terms = {"retry": SOON, "cells_per_request": self.each, **terms}
        return Client("http://server", transport=httpx.MockTransport(self.handle), **terms)

    def awaited(self, **terms: Any) -> AsyncClient:
        terms = {"retry": SOON, "cells_per_request": self.each, **terms}

        async def handle(request: httpx.Request) -> httpx.Response:
            await request.aread()
            return await asyncio.to_thread(self.handle, request)

        return AsyncClient("http://server", transport=httpx.MockTransport(handle), **terms)

    @property
    def asked(self) -> list[Ask]:
        return self.desk.asked


@contextmanager
def served(**settings: Any) -> Iterator[Server]:
    """A server with these settings."""
    desk = FakeDesk()
    with Bridge(app_of(Door(desk, Settings((ModelAsked("demo", "demo"),), **settings)))) as bridge:
        yield Server(desk, bridge)


def embed(server: Server, way: str, cells: Any, *args: Any, **options: Any) -> ad.AnnData:
    if way == "blocking":
        with server.client() as client:
            return client.embed(cells, *args, **options)

    async def run() -> ad.AnnData:
        async with server.awaited() as client:
            return await client.embed(cells, *args, **options)

    return asyncio.run(run())
