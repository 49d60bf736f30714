"""Pieces of the description that operations share: answers, refusals, headers, parameters, bodies.

Names and schemas in, OpenAPI's own nouns out. It knows no path.
"""

from collections.abc import Mapping
from typing import Any, Final

from scgpt_infer.server import refusals
from scgpt_infer.server.refusals import Refusal

__all__ = ["HEADERS", "REQUEST_ID", "TIMEOUT", "body", "given", "operation", "query", "ref", "refused"]

Json = dict[str, Any]

HEADERS: Final[Json] = {
    "X-Request-Id": {
        "description": "The request's own id where it had one, else a new one; logs and traces have it.",
        "schema": {"type": "string"},
    },
    "X-Vector-Id": {
        "description": "Vectors, and what follows from them, can be compared where it is equal.",
        "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    },
    "X-Bad-Cells": {
        "description": "Cells without a vector: null in JSON, with the reason; NaN in npy and Arrow.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Server-Timing": {
        "description": "Milliseconds of each stage: read, queue, tokenise, infer, write.",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds after which to ask again, from the rate that the server measures.",
        "schema": {"type": "integer", "minimum": 1},
    },
}

REQUEST_ID: Final[Json] = {
    "name": "X-Request-Id",
    "in": "header",
    "description": "Names the request in answers and logs: 1 to 128 visible letters; what is not that is replaced.",
    "schema": {"type": "string"},
}
TIMEOUT: Final[Json] = {
    "name": "X-Request-Timeout-Ms",
    "in": "header",
    "description": "Milliseconds from the request's arrival after which nobody wants the answer: 504 then.",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}

_AGAIN = (429, 503)


def ref(name: str) -> Json:
    """A schema by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def refused() -> Json:
    """The answer of each refusal, by its status."""
    kinds = {kind.status: kind for kind in vars(refusals).values() if _is_refusal(kind)}
    return {str(status): _refusal(kind) for status, kind in sorted(kinds.items())}


def _is_refusal(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Refusal) and kind is not Refusal


def _refusal(kind: type[Refusal]) -> Json:
    told: Json = {
        "description": (kind.__doc__ or "").strip(),
        "content": {"application/json": {"schema": ref("Refusal")}},
        "headers": {"X-Request-Id": _header("X-Request-Id")},
    }
    if kind.status in _AGAIN:
        told["headers"]["Retry-After"] = _header("Retry-After")
    return told


def given(description: str, content: Mapping[str, Any] | None = None, headers: tuple[str, ...] = ()) -> Json:
    """An answer.

    Parameters
    ----------
    description
        What it is.
    content
        Schemas by medium; None: it has no body.
    headers
        Names of `HEADERS` that it has besides ``X-Request-Id``.
    """
    told: Json = {
        "description": description,
        "headers": {name: _header(name) for name in ("X-Request-Id", *headers)},
    }
    if content:
        told["content"] = {medium: {"schema": schema} for medium, schema in content.items()}
    return told


def _header(name: str) -> Json:
    return {"$ref": f"#/components/headers/{name}"}


def body(description: str, content: Mapping[str, Any], required: bool = True) -> Json:
    """A request's body: schemas, or whole media objects with examples, by medium."""
    media = {medium: told if "schema" in told else {"schema": told} for medium, told in content.items()}
    return {"description": description, "required": required, "content": media}


def query(name: str, schema: Json, description: str, required: bool = False) -> Json:
    """A parameter of the query."""
    return {"name": name, "in": "query", "required": required, "description": description, "schema": schema}


def operation(
    tag: str,
    name: str,
    summary: str,
    answers: Mapping[int, Json],
    refusals: tuple[int, ...] = (),
    parameters: tuple[Json, ...] = (),
    request: Json | None = None,
    description: str = "",
) -> Json:
    """An operation.

    Parameters
    ----------
    tag, name, summary, description
        What it is; the name is its ``operationId``.
    answers
        By status.
    refusals
        Statuses of refusals; 429, 500 and 503 come with all of them.
    parameters
        Of path, query and headers.
    request
        Its body.
    """
    told: Json = {"tags": [tag], "operationId": name, "summary": summary}
    if description:
        told["description"] = description
    if parameters:
        told["parameters"] = list(parameters)
    if request is not None:
        told["requestBody"] = request
    every = sorted({*refusals, 429, 500, 503})
    told["responses"] = {str(status): answer for status, answer in answers.items()} | {
        str(status): {"$ref": f"#/components/responses/{status}"} for status in every
    }
    return told
