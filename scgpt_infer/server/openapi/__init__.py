"""The description of everything a server answers, as OpenAPI 3.1: `description`.

In: settings, which decide what is there. Out: plain values for JSON. It knows no handler; a test holds the two
together.
"""

from typing import Any, Final

from scgpt_infer import __version__
from scgpt_infer.server.openapi import jobs, kserve, native, operation, tasks
from scgpt_infer.server.openapi.parts import HEADERS, refused
from scgpt_infer.server.openapi.schemas import schemas
from scgpt_infer.server.settings import Settings

__all__ = ["description"]

_ABOUT: Final = (
    "Embeds and annotates single cells with scGPT. The same cell has the same vector always: alone, among others, and "
    "from the command line. Every refusal is a JSON object with `error` (what was found, what was expected, what to "
    "do), `code` (for programs) and `request_id` (to find it in the server's log)."
)
_TAGS: Final = (
    ("cells", "Cells as they come: JSON or Arrow in; JSON, npy or Arrow out."),
    ("tasks", "What else a model can do: JSON in and out."),
    ("models", "Which models answer."),
    ("jobs", "Whole files."),
    ("open inference protocol", "For the clients of KServe and Triton."),
    ("operation", "For who watches the server."),
)


def description(settings: Settings) -> dict[str, Any]:
    """The OpenAPI document of a server.

    Parameters
    ----------
    settings
        Of the server: whether it has jobs, a page, API keys, and its limits.
    """
    keyed = settings.keys_file is not None
    told: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "scgpt-infer", "version": __version__, "description": _ABOUT},
        "tags": [{"name": name, "description": text} for name, text in _TAGS],
        "paths": _paths(settings),
        "components": {"schemas": schemas(settings), "responses": refused(), "headers": HEADERS},
    }
    if keyed:
        told["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        told["security"] = [{"bearer": []}, {"header": []}]
    return told


def _paths(settings: Settings) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for group in (native, tasks, jobs, kserve, operation):
        paths |= group.paths(settings)
    if settings.keys_file is not None:
        for path, operations in paths.items():
            for told in operations.values():
                if path in operation.OPEN:
                    told["security"] = []
                else:
                    told["responses"]["401"] = {"$ref": "#/components/responses/401"}
    return paths
