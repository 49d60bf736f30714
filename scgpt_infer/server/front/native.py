"""Routes under ``/v1`` for cells as they come, and for what can be asked of which model.

HTTP in and out; `scgpt_infer.server.bodies` reads and writes what bodies say.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from scgpt_infer import schema
from scgpt_infer.server import metrics
from scgpt_infer.server.asking import Answer, Ask
from scgpt_infer.server.bodies import arrow, json
from scgpt_infer.server.bodies.body import Body, once, options_of
from scgpt_infer.server.bodies.media import chosen, kind_of
from scgpt_infer.server.bodies.reply import ARROW, FORMS, JSON, reply
from scgpt_infer.server.desk import Here, Status
from scgpt_infer.server.front.aside import aside
from scgpt_infer.server.front.body import body_of
from scgpt_infer.server.front.deadline import within_of
from scgpt_infer.server.front.door import Door
from scgpt_infer.server.front.leaving import unless_gone
from scgpt_infer.server.refusals import Unprocessable

__all__ = ["BAD_CELLS", "VECTOR_ID", "routes"]

VECTOR_ID = "X-Vector-Id"
"""Header with the id of the vectors: they can be compared with those of other answers that have the same."""

BAD_CELLS = "X-Bad-Cells"
"""Header with the number of cells that have no vector."""


def routes(door: Door) -> list[BaseRoute]:
    """The routes of single cells and of what is there."""
    native = _Native(door)
    return [
        Route("/v1/embed", native.embed, methods=["POST"]),
        Route("/v1/annotate", native.annotate, methods=["POST"]),
        Route("/v1/models", native.models),
        Route("/v1/models/{name}", native.model),
        Route("/v1/schema", native.schema),
    ]


@dataclass(frozen=True, slots=True)
class _Native:
    """The handlers."""

    door: Door

    async def embed(self, request: Request) -> Response:
        return await self._answered(request, "embed")

    async def annotate(self, request: Request) -> Response:
        return await self._answered(request, "annotate")

    async def models(self, request: Request) -> Response:
        return _json({"models": [self._told(status) for status in self.door.desk.statuses()]})

    async def model(self, request: Request) -> Response:
        name = request.path_params["name"]
        for status in self.door.desk.statuses():
            if status.name == name:
                return _json(self._told(status))
        return _json(_told(self.door.desk.here(name)))  # raises: there is none

    async def schema(self, request: Request) -> Response:
        return Response(schema.PATH.read_bytes(), media_type="application/schema+json")

    async def _answered(self, request: Request, task: str) -> Response:
        form = chosen(request.headers.get("accept", ""), FORMS[task])
        kind = kind_of(request.headers.get("content-type", ""), (JSON, ARROW))
        text = await body_of(request, self.door.settings)
        began = time.perf_counter()
        body: Body = await aside(len(text), lambda: self._read(text, kind, task))
        options = options_of(task, body.said, once(request.query_params.multi_items()))
        here = self._here(request, task, options.pop("model", None))
        with_vectors = options.pop("with_vectors", False)
        genes = self.door.tables.of(here)
        cells = await aside(len(text), lambda: body.cells(genes))
        read = time.perf_counter() - began
        asked = Ask(task, cells, request.state.client, within_of(request), options, request.state.request_id)
        answer = await unless_gone(request, self.door.desk.ask(here, asked))
        began = time.perf_counter()
        told = await aside(answer.part.vectors.nbytes, lambda: reply(answer, form, cells.names, with_vectors))
        seconds = {"read": read, **answer.seconds, "write": time.perf_counter() - began}
        metrics.stage(here.name, "read", read)
        metrics.stage(here.name, "write", seconds["write"])
        return Response(told, headers=_headers(answer, seconds), media_type=form)

    def _read(self, text: bytes, kind: str, task: str) -> Body:
        limits = self.door.settings.max_cells, self.door.settings.max_genes
        return arrow.read(text, *limits) if kind == ARROW else json.read(text, task, *limits)

    def _here(self, request: Request, task: str, name: str | None) -> Here:
        """The model that is asked."""
        here = self.door.desk.here(name)
        request.state.model = here.name
        if task not in here.abilities:
            able = ", ".join(here.abilities) or "none of the tasks"
            raise Unprocessable(f"The model {here.name!r} cannot {task}; it can {able}. Name another (/v1/models).")
        return here

    def _told(self, status: Status) -> dict[str, Any]:
        """A model, with all that is known of it while it answers."""
        told = {"name": status.name, "generation": status.generation, "state": status.state, "reason": status.reason}
        return told | (_told(self.door.desk.here(status.name)) if status.state == "ready" else {})


def _told(here: Here) -> dict[str, Any]:
    return {
        "name": here.name,
        "vector_id": here.vector_id,
        "dim": here.manifest.dim,
        "key": here.manifest.key,
        "takes_zeros": here.manifest.tokenizer.include_zeros,
        "max_length": here.max_length,
        "n_genes": len(here.vocabulary),
        "tasks": list(here.abilities),
        "labels": list(here.labels),
        "licence": here.manifest.licence,
        "run": dict(here.run),
    }


def _headers(answer: Answer, seconds: Mapping[str, float]) -> dict[str, str]:
    return {
        VECTOR_ID: str(answer.run["vector_id"]),
        BAD_CELLS: str(sum(map(bool, answer.part.reasons))),
        "Server-Timing": ", ".join(f"{stage};dur={1000 * took:.3f}" for stage, took in seconds.items()),
    }


def _json(told: Any) -> Response:
    return Response(msgspec.json.encode(told), media_type=JSON)
