"""Spans for OpenTelemetry, for those who ask for them: `request` around a request, `stages` for what it waited for.

Where they go, and how many, OpenTelemetry's own environment variables say. Without `configure` all of this does
nothing, and the package need not be there.
"""

import importlib
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from scgpt_infer import __version__
from scgpt_infer.server.metrics import STAGES
from scgpt_runtime.errors import MissingDependencyError

__all__ = ["Note", "configure", "finish", "needed", "request", "stages"]

_NAME = "scgpt-infer"
_SERVER_ERROR = 500
_LAST_SECONDS = 3.0
"""That the last spans have. OpenTelemetry itself takes up to 30, more than many a server has to end."""

_providers: list[Any] = []
"""The one that was configured, if any."""


class Note(Protocol):
    """Adds facts to the span of a request."""

    def __call__(self, route: str, status: int, facts: Mapping[str, str]) -> None:
        """Tell the request's route, the answer's status, and other facts."""
        ...


def configure(process: str, exporter: Any = None) -> None:
    """Have this process make spans.

    Parameters
    ----------
    process
        Its name, such as ``frontend-0``.
    exporter
        What they are given to. None: OTLP over HTTP, to where OTEL_EXPORTER_OTLP_ENDPOINT says.

    Raises
    ------
    MissingDependencyError
        OpenTelemetry is not installed.
    """
    needed()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    found = Resource.create({"service.instance.id": process})  # OTEL_SERVICE_NAME and its like come first
    if str(found.attributes["service.name"]).startswith("unknown_service"):
        found = found.merge(Resource({"service.name": _NAME}))
    provider = TracerProvider(resource=found, shutdown_on_exit=False)  # `finish` does it, in bounded time
    provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
    _providers[:] = [provider]


def needed() -> None:
    """See that OpenTelemetry is there.

    Raises
    ------
    MissingDependencyError
        It is not.
    """
    for package in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"):
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f'Tracing needs {error.name}: pip install "scgpt-infer[otel]", or leave --tracing out.'
            ) from error


def finish() -> None:
    """Give away the spans that are still here, and make no more. A collector that does not answer is not waited for."""
    while _providers:
        ending = threading.Thread(target=_providers.pop().shutdown, daemon=True)
        ending.start()
        ending.join(_LAST_SECONDS)


@contextmanager
def request(method: str, headers: Mapping[str, str]) -> Iterator[Note]:
    """A span around a request, under that of the client where ``traceparent`` names one (W3C Trace Context).

    Parameters
    ----------
    method
        Of HTTP.
    headers
        Of the request, their names in lower case.
    """
    if not _providers:
        yield _no_note
        return
    from opentelemetry.propagate import extract
    from opentelemetry.trace import SpanKind, StatusCode

    tracer = _providers[0].get_tracer(_NAME, __version__)
    with tracer.start_as_current_span(method, extract(headers), kind=SpanKind.SERVER) as span:

        def note(route: str, status: int, facts: Mapping[str, str]) -> None:
            span.update_name(f"{method} {route}")
            span.set_attribute("http.request.method", method)
            span.set_attribute("http.route", route)
            span.set_attribute("http.response.status_code", status)
            for name, fact in facts.items():
                span.set_attribute(f"scgpt_infer.{name}", fact)
            if status >= _SERVER_ERROR:
                span.set_status(StatusCode.ERROR)

        yield note


def stages(seconds: Mapping[str, float]) -> None:
    """Spans of the stages of an answer that came just now, under the span of its request.

    Their lengths were measured where they happened; they are laid one after another so that the last ends now.

    Parameters
    ----------
    seconds
        By stage.
    """
    if not _providers:
        return
    tracer = _providers[0].get_tracer(_NAME, __version__)
    start = time.time_ns() - round(sum(seconds.values()) * 1e9)
    for name in (stage for stage in STAGES if stage in seconds):
        end = start + round(seconds[name] * 1e9)
        tracer.start_span(name, start_time=start).end(end)
        start = end


def _no_note(route: str, status: int, facts: Mapping[str, str]) -> None:
    """Nobody asked for spans."""
