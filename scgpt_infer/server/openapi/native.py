"""Paths of cells as they come and of models."""

from typing import Any, Final

from scgpt_infer.server.bodies.reply import ARROW, FORMS, JSON, NPY
from scgpt_infer.server.openapi.parts import REQUEST_ID, TIMEOUT, Json, body, given, operation, query, ref
from scgpt_infer.server.openapi.schemas import options
from scgpt_infer.server.settings import Settings

__all__ = ["MODEL", "NAME", "paths"]

_OF_CELLS: Final = ("X-Vector-Id", "X-Bad-Cells", "Server-Timing")
_BYTES: Final[Json] = {"type": "string", "contentMediaType": "application/octet-stream"}
_ABOUT: Final = {
    "embed": (
        "Vectors of cells",
        "As JSON each cell has its vector, or null and the reason; as npy the vectors alone are a matrix, float32 "
        "(n_cells, dim), NaN where there is none; as Arrow the columns are cell, embedding and error.",
    ),
    "annotate": (
        "Types of cells",
        "The most likely labels of each cell with their confidences. As Arrow the columns are cell, label, confidence, "
        "label_1, confidence_1 and so on, and error.",
    ),
}
_EXAMPLE: Final[Json] = {
    "cells": [
        {"cell": "AAACATACAACCAC-1", "genes": {"CD3D": 4, "IL7R": 2, "ENSG00000168685": 1}},
        {"genes": ["MS4A1", "CD79A"], "values": [3.0, 5.0]},
    ]
}

MODEL: Final = query("model", {"type": "string"}, "Name of the model; the first one where none is named.")
NAME: Final[Json] = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "Name of a model.",
    "schema": {"type": "string"},
}


def paths(settings: Settings) -> dict[str, Any]:
    """Paths with their operations."""
    model = given("A model.", {JSON: ref("Model")})
    vocabulary = given("vocab.json of the model's bundle.", {JSON: {"type": "object"}})
    schema = given("A JSON Schema, draft 2020-12.", {"application/schema+json": {"type": "object"}})
    return {
        "/v1/embed": {"post": _asked("embed")},
        "/v1/annotate": {"post": _asked("annotate")},
        "/v1/models": {
            "get": operation("models", "models", "All models", {200: given("All models.", {JSON: ref("Models")})})
        },
        "/v1/models/{name}": {
            "get": operation("models", "model", "A model, whether it answers or not", {200: model}, (404,), (NAME,))
        },
        "/v1/models/{name}/vocabulary": {
            "get": operation(
                "models",
                "vocabulary",
                "The genes that a model knows",
                {200: vocabulary, 304: {"description": "The client has it already (If-None-Match)."}},
                (404,),
                (NAME,),
            )
        },
        "/v1/schema": {"get": operation("models", "schema", "JSON Schema of all documents", {200: schema})},
    }


def _asked(task: str) -> Json:
    """The operation that answers cells."""
    summary, about = _ABOUT[task]
    how = options() if task == "annotate" else {}
    questions = tuple(query(name, told, told["description"]) for name, told in how.items())
    forms = {JSON: ref("Document"), NPY: _BYTES, ARROW: _BYTES}
    asked = {
        JSON: {"schema": ref(f"{task.capitalize()}Asked"), "example": _EXAMPLE},
        ARROW: {
            "schema": {
                **_BYTES,
                "description": "A stream of Arrow IPC: genes list<utf8> (or a dictionary), values list<float32>, and, "
                "where cells have names, cell utf8.",
            }
        },
    }
    return operation(
        "cells",
        task,
        summary,
        {
            200: given(
                "An answer for each cell, in their order.", {form: forms[form] for form in FORMS[task]}, _OF_CELLS
            )
        },
        (400, 404, 406, 408, 413, 415, 422, 504),
        (MODEL, *questions, TIMEOUT, REQUEST_ID),
        body("Cells. Options may stand in the body or in the query; the body's count.", asked),
        about,
    )
