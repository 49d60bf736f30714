"""Paths for who watches a server, its description, and the page."""

from typing import Any, Final

from scgpt_infer.server.open_paths import OPEN_PATHS as OPEN
from scgpt_infer.server.openapi.parts import Json, given, operation, ref
from scgpt_infer.server.settings import Settings

__all__ = ["OPEN", "paths"]

_JSON: Final = "application/json"
_OBJECT: Final[Json] = {"type": "object"}
_TEXT: Final[Json] = {"type": "string"}


def paths(settings: Settings) -> dict[str, Any]:
    """Paths with their operations."""
    gets = {
        "/livez": ("livez", "Whether a front end lives", {200: given("It does.", {_JSON: _OBJECT})}),
        "/readyz": (
            "readyz",
            "Whether an inference of each model has passed",
            {200: given("It has.", {_JSON: ref("Ready")}), 503: given("Not yet, or no more.", {_JSON: ref("Ready")})},
        ),
        "/metrics": ("metrics", "For Prometheus", {200: given("Its text format.", {"text/plain": _TEXT})}),
        "/openapi.json": ("openapi", "This description", {200: given("OpenAPI 3.1.", {_JSON: _OBJECT})}),
    }
    if settings.ui:
        gets["/"] = (
            "page",
            "A page for people",
            {200: given("It asks this server by its other paths.", {"text/html": _TEXT})},
        )
    return {path: {"get": _told(name, summary, answers)} for path, (name, summary, answers) in gets.items()}


def _told(name: str, summary: str, answers: dict[int, Json]) -> Json:
    """An operation that is never refused."""
    told = operation("operation", name, summary, answers)
    told["responses"] = {str(status): answer for status, answer in answers.items()} | {"500": told["responses"]["500"]}
    return told
