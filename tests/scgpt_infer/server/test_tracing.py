"""Spans of a request, under that of its client."""

import asyncio
import importlib
import threading

import httpx
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.responses import Response
from starlette.routing import Route, Router

from scgpt_infer.server import tracing
from scgpt_infer.server.front.entry import Entry
from scgpt_infer.server.refusals import Broken
from scgpt_runtime.errors import MissingDependencyError

TRACE, CLIENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def answered(request):
    await asyncio.sleep(0)
    tracing.stages({"infer": 0.25, "queue": 0.5, "tokenise": 0.125})
    return Response("")


async def broken(request):
    raise Broken("It broke.")


def ask(path, **headers):
    entry = Entry(Router([Route("/v1/embed", answered), Route("/v1/models/{name}", broken)]), 8)

    async def story():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(entry), base_url="http://server") as client:
            await client.get(path, headers=headers)

    asyncio.run(story())


@pytest.fixture
def spans():
    """Gives the spans that were made so far."""
    exporter = InMemorySpanExporter()
    tracing.configure("frontend-0", exporter)

    def finished():
        tracing.finish()
        return exporter.get_finished_spans()

    yield finished
    tracing.finish()


def test_stages_stand_under_the_request_and_that_under_its_client(spans):
    ask("/v1/embed", traceparent=f"00-{TRACE}-{CLIENT}-01", **{"X-Request-Id": "mine"})
    *stages, request = spans()
    assert request.name == "GET /v1/embed"
    assert f"{request.context.trace_id:032x}" == TRACE
    assert f"{request.parent.span_id:016x}" == CLIENT
    assert request.attributes["http.route"] == "/v1/embed"
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["scgpt_infer.request_id"] == "mine"
    assert request.resource.attributes["service.name"] == "scgpt-infer"
    lengths = {span.name: (span.end_time - span.start_time) / 1e9 for span in stages}
    assert lengths == {"tokenise": 0.125, "queue": 0.5, "infer": 0.25}
    assert {span.parent.span_id for span in stages} == {request.context.span_id}
    assert stages[0].end_time == stages[1].start_time


def test_what_went_wrong_here_is_an_error_and_names_no_path(spans):
    ask("/v1/models/of-a-user")
    (span,) = spans()
    assert (span.name, span.status.is_ok) == ("GET /v1/models/{name}", False)
    assert "of-a-user" not in str(dict(span.attributes))


def test_who_did_not_ask_for_spans_makes_none(spans):
    tracing.finish()
    ask("/v1/embed")
    assert spans() == ()


def test_a_collector_that_does_not_answer_holds_nobody_up(monkeypatch):
    class Silent(InMemorySpanExporter):
        def __init__(self):
            super().__init__()
            self.answers = threading.Event()

        def export(self, spans):
            self.answers.wait(20)
            return super().export(spans)

    monkeypatch.setattr(tracing, "_LAST_SECONDS", 0.01)
    silent = Silent()
    tracing.configure("frontend-0", silent)
    ask("/v1/embed")
    tracing.finish()
    assert silent.get_finished_spans() == ()
    silent.answers.set()


def test_without_the_package_it_is_said_what_to_install(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingDependencyError, match=r"scgpt-infer\[otel\]"):
        tracing.configure("frontend-0")
