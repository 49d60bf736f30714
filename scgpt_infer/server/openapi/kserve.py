"""Paths of the Open Inference Protocol v2, with its binary tensor, repository, configuration and statistics extensions.

The schemas are those of its JSON; tensors as bytes lie behind it, as the header Inference-Header-Content-Length says.
"""

from typing import Any, Final

from scgpt_infer.server.openapi.native import NAME
from scgpt_infer.server.openapi.parts import REQUEST_ID, TIMEOUT, Json, body, given, operation, ref
from scgpt_infer.server.settings import Settings

__all__ = ["paths"]

_TAG: Final = "open inference protocol"
_JSON: Final = "application/json"
_OCTETS: Final = "application/octet-stream"
_BYTES: Final[Json] = {"type": "string", "contentMediaType": _OCTETS}
_OBJECT: Final[Json] = {"type": "object"}
_VERSION: Final[Json] = {
    "name": "version",
    "in": "path",
    "required": True,
    "description": "1: every model has one version.",
    "schema": {"type": "string"},
}
_JSON_BYTES: Final[Json] = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "description": "Bytes of the JSON at the beginning of the body, where tensors lie behind it.",
    "schema": {"type": "integer", "minimum": 1},
}


def paths(settings: Settings) -> dict[str, Any]:
    """Paths with their operations."""
    ready = given("It answers.", {_JSON: _OBJECT})
    server = given("The server.", {_JSON: ref("ServerMetadata")})
    stats = given("What has been answered.", {_JSON: _OBJECT})
    told = {
        "/v2": {"get": operation(_TAG, "v2_server", "Server metadata", {200: server})},
        "/v2/": {"get": operation(_TAG, "v2_server_too", "Server metadata", {200: server})},
        "/v2/health/live": {"get": operation(_TAG, "v2_live", "Whether the server lives", {200: ready})},
        "/v2/health/ready": {"get": operation(_TAG, "v2_ready", "Whether all models answer", {200: ready})},
        "/v2/models/stats": {"get": operation(_TAG, "v2_stats", "Statistics of all models", {200: stats})},
        "/v2/repository/index": {"post": _index()},
        "/v2/repository/models/{name}/load": {"post": _control("load")},
        "/v2/repository/models/{name}/unload": {"post": _control("unload")},
    }
    for path, suffix, parameters in (
        ("/v2/models/{name}", "", (NAME,)),
        ("/v2/models/{name}/versions/{version}", "_version", (NAME, _VERSION)),
    ):
        told |= _of_model(path, suffix, parameters)
    return told


def _of_model(path: str, suffix: str, parameters: tuple[Json, ...]) -> dict[str, Any]:
    """Operations on a model, or on its version."""
    inferred = given("The outputs.", {_JSON: ref("Inferred"), _OCTETS: _BYTES}, ("X-Vector-Id", "Server-Timing"))
    asked = body("Cells as the rows of a sparse matrix.", {_JSON: ref("InferAsked"), _OCTETS: _BYTES})
    gets = {
        "": ("model", "Metadata of a model", ref("ModelMetadata")),
        "/ready": ("model_ready", "Whether a model answers", _OBJECT),
        "/config": ("config", "Configuration of a model", _OBJECT),
        "/stats": ("model_stats", "Statistics of a model", _OBJECT),
    }
    told = {
        f"{path}{end}": {
            "get": operation(
                _TAG, f"v2_{name}{suffix}", summary, {200: given(summary, {_JSON: schema})}, (404,), parameters
            )
        }
        for end, (name, summary, schema) in gets.items()
    }
    told[f"{path}/infer"] = {
        "post": operation(
            _TAG,
            f"v2_infer{suffix}",
            "Infer",
            {200: inferred},
            (400, 404, 408, 413, 415, 422, 504),
            (*parameters, _JSON_BYTES, TIMEOUT, REQUEST_ID),
            asked,
        )
    }
    return told


def _index() -> Json:
    form = {"type": "object", "properties": {"ready": {"type": "boolean"}}}
    return operation(
        _TAG,
        "v2_index",
        "Models that are loaded or can be",
        {200: given("Models.", {_JSON: ref("Repository")})},
        (400, 408, 413, 415),
        request=body("Whether only those that answer are wanted.", {_JSON: form}, required=False),
    )


def _control(what: str) -> Json:
    done = {"description": "It is done."}
    return operation(
        _TAG,
        f"v2_{what}",
        f"{what.capitalize()} a model",
        {200: done},
        (400, 403, 404, 408, 409, 413, 415, 422),
        (NAME,),
        body("May be empty.", {_JSON: _OBJECT}, required=False),
        "Refused with 403 unless the server was started with --model-control.",
    )
