"""Paths of the tasks that are no matter of single cells, one for each body of `scgpt_infer.server.calls.bodies`."""

from typing import Any, Final

from scgpt_infer.server.calls.bodies import BODIES
from scgpt_infer.server.openapi.native import MODEL
from scgpt_infer.server.openapi.parts import REQUEST_ID, TIMEOUT, body, given, operation, ref
from scgpt_infer.server.settings import Settings

__all__ = ["paths"]

_JSON: Final = "application/json"


def paths(settings: Settings) -> dict[str, Any]:
    """Paths with their operations."""
    document = given("A document.", {_JSON: ref("Document")}, ("X-Vector-Id",))
    return {
        f"/v1/{task}": {
            "post": operation(
                "tasks",
                task,
                (asked.__doc__ or "").split(";")[0].split("\n")[0].rstrip("."),
                {200: document},
                (400, 404, 406, 408, 413, 415, 422, 504),
                (MODEL, TIMEOUT, REQUEST_ID),
                body("Cells and options, named as in Python.", {_JSON: ref(asked.__name__)}),
            )
        }
        for task, asked in BODIES.items()
    }
