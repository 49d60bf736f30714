"""Routes under ``/v2``: the Open Inference Protocol over REST, for the clients of KServe and Triton.

HTTP in and out; `scgpt_infer.server.kserve` reads and writes what bodies say.
"""

import asyncio
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from scgpt_infer.server import metrics
from scgpt_infer.server.asking import Answer, Ask, Cells
from scgpt_infer.server.desk import Here
from scgpt_infer.server.front.aside import aside
from scgpt_infer.server.front.body import body_of
from scgpt_infer.server.front.deadline import within_of
from scgpt_infer.server.front.door import Door
from scgpt_infer.server.front.leaving import unless_gone
from scgpt_infer.server.kserve import answers, inputs, metadata, repository, requests
from scgpt_infer.server.kserve.statistics import statistics
from scgpt_infer.server.refusals import Expired, NotFound, NotReady

__all__ = ["JSON_BYTES", "routes"]

JSON_BYTES = "Inference-Header-Content-Length"
"""Header that says where the JSON of a body ends and the bytes of tensors begin."""

_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_SLOWER = 16  # times that compressing takes what other work on as many bytes does
_FASTEST = 1  # the digits and bits of vectors hardly shrink further


def routes(door: Door) -> list[BaseRoute]:
    """All routes of the protocol, with its model repository, configuration and statistics extensions."""
    v2 = _V2(door)
    models = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
    found: list[BaseRoute] = [Route(f"{model}/infer", v2.infer, methods=["POST"]) for model in models]  # asked the most
    found += [
        Route("/v2", v2.server),
        Route("/v2/", v2.server),
        Route("/v2/health/live", v2.live),
        Route("/v2/health/ready", v2.ready),
        Route("/v2/models/stats", v2.stats),
        Route("/v2/repository/index", v2.index, methods=["POST"]),
        Route("/v2/repository/models/{name}/load", v2.load, methods=["POST"]),
        Route("/v2/repository/models/{name}/unload", v2.unload, methods=["POST"]),
    ]
    for model in models:
        found += [
            Route(model, v2.model),
            Route(f"{model}/ready", v2.model_ready),
            Route(f"{model}/config", v2.config),
            Route(f"{model}/stats", v2.stats),
        ]
    return found


@dataclass(frozen=True, slots=True)
class _V2:
    """The handlers."""

    door: Door

    async def server(self, request: Request) -> Response:
        return _json(metadata.server())

    async def live(self, request: Request) -> Response:
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        if not self.door.desk.ready:
            raise NotReady("Not all models answer, or the server is about to end; /v2/repository/index says more.")
        return _json({"ready": True})

    async def model(self, request: Request) -> Response:
        return _json(metadata.model(self._here(request)))

    async def model_ready(self, request: Request) -> Response:
        name = self._here(request).name
        if all(status.state != "ready" for status in self.door.desk.statuses() if status.name == name):
            raise NotReady(f"The model {name} is being started again; requests to it wait.")
        return _json({"name": name, "ready": True})

    async def config(self, request: Request) -> Response:
        return _json(metadata.configuration(self._here(request)))

    async def stats(self, request: Request) -> Response:
        if "name" in request.path_params:
            models = [self._here(request).name]
        else:
            models = [status.name for status in self.door.desk.statuses()]
        return _json(statistics((await asyncio.to_thread(metrics.exposition))[0], models))

    async def index(self, request: Request) -> Response:
        only_ready = repository.only_ready(await body_of(request, self.door.settings))
        return _json(repository.index(self.door.desk.statuses(), self.door.settings, only_ready))

    async def load(self, request: Request) -> Response:
        repository.check_load(self.door.settings, await body_of(request, self.door.settings))
        await self.door.desk.load(request.path_params["name"])
        return Response()

    async def unload(self, request: Request) -> Response:
        repository.check_unload(self.door.settings, await body_of(request, self.door.settings))
        await self.door.desk.unload(request.path_params["name"])
        return Response()

    async def infer(self, request: Request) -> Response:
        here = self._here(request)
        body = await body_of(request, self.door.settings)
        began = time.perf_counter()
        asked = await aside(len(body), lambda: requests.read(body, request.headers.get(JSON_BYTES)))
        task = answers.task_of(asked, here)
        cells = await aside(len(body), lambda: self._cells(asked, here))
        within, options = _within(request, asked.parameters.timeout), _options(asked.parameters)
        ask = Ask(task, cells, request.state.client, within, options, request.state.request_id)
        read = time.perf_counter() - began
        answer = await unless_gone(request, self.door.desk.ask(here, ask))
        began = time.perf_counter()
        told, json_bytes = await aside(answer.part.vectors.nbytes, lambda: answers.write(asked, here.name, answer))
        seconds = {"read": read, **answer.seconds, "write": time.perf_counter() - began}
        for stage in ("read", "write"):
            metrics.stage(here.name, stage, seconds[stage])
        return await _encoded(request, told, _headers(answer, seconds, json_bytes))

    def _cells(self, asked: requests.Request, here: Here) -> Cells:
        settings = self.door.settings
        return inputs.cells(asked, self.door.tables.of(here), settings.max_cells, settings.max_genes)

    def _here(self, request: Request) -> Here:
        """The model, and the version of it, that a path names."""
        here = self.door.desk.here(request.path_params["name"])
        request.state.model = here.name
        version = request.path_params.get("version", metadata.VERSION)
        if version != metadata.VERSION:
            raise NotFound(f"Model {here.name!r} has no version {version[:40]!r}; it has {metadata.VERSION}.")
        return here


def _within(request: Request, microseconds: int) -> float | None:
    """Seconds from now within which the answer is wanted: what the header or the protocol's timeout says, the shorter.

    Both count from the arrival of the request; 0 microseconds are no limit.
    """
    within = within_of(request)
    if not microseconds:
        return within
    now = time.monotonic()
    left = microseconds / 1e6 - (now - getattr(request.state, "arrived", now))
    if left <= 0:
        raise Expired(f"The timeout of {microseconds:,} microseconds had passed before the model was asked.")
    return left if within is None else min(left, within)


def _options(parameters: requests.Parameters) -> dict[str, Any]:
    told = {"top": parameters.top, "unknown_below": parameters.unknown_below}
    return {name: value for name, value in told.items() if value is not None}


def _headers(answer: Answer, seconds: Mapping[str, float], json_bytes: int | None) -> dict[str, str]:
    timing = ", ".join(f"{stage};dur={1000 * took:.3f}" for stage, took in seconds.items())
    headers = {"X-Vector-Id": str(answer.run["vector_id"]), "Server-Timing": timing, "Content-Type": "application/json"}
    if json_bytes is not None:
        headers |= {"Content-Type": "application/octet-stream", JSON_BYTES: str(json_bytes)}
    return headers


async def _encoded(request: Request, body: bytes, headers: Mapping[str, str]) -> Response:
    """A response, compressed where the client asks for one way of it and no other.

    HTTP libraries offer all that they know by themselves; a client that names one wants it. Vectors hardly shrink, so
    that to compress them costs more than it saves on most networks.
    """
    coding = request.headers.get("accept-encoding", "").strip().lower()
    if coding in _WINDOWS:
        body = await aside(_SLOWER * len(body), lambda: _squeezed(body, coding))
        headers = {**headers, "Content-Encoding": coding, "Vary": "Accept-Encoding"}
    return Response(body, headers=headers)


def _squeezed(body: bytes, coding: str) -> bytes:
    squeezer = zlib.compressobj(_FASTEST, zlib.DEFLATED, _WINDOWS[coding])
    return squeezer.compress(body) + squeezer.flush()


def _json(told: Any) -> Response:
    return Response(msgspec.json.encode(told), media_type="application/json")
