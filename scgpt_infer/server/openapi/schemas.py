"""Schemas of the description: documents as `scgpt_infer.schema` has them, and the bodies of all other messages.

In: settings, for limits. Out: JSON Schema (draft 2020-12) by name.
"""

from typing import Any, Final

import msgspec

from scgpt_infer import schema
from scgpt_infer.server.bodies.body import MOST_CANDIDATES
from scgpt_infer.server.calls.bodies import BODIES
from scgpt_infer.server.jobs.asked import OUTPUTS, TASKS
from scgpt_infer.server.openapi.parts import Json, ref
from scgpt_infer.server.settings import Settings

__all__ = ["schemas"]

_PLACE: Final = "#/components/schemas/"
_TEXT: Final[Json] = {"type": "string"}
_COUNT: Final[Json] = {"type": "integer", "minimum": 0}
_STATES: Final = ["loading", "ready", "failed", "unloading"]


def schemas(settings: Settings) -> Json:
    """All schemas by name."""
    _, bodies = msgspec.json.schema_components(BODIES.values(), ref_template=_PLACE + "{name}")
    told = {**_documents(), **bodies, **_cells(settings), **_models(), **_protocol()}
    return told | (_jobs() if settings.jobs_dir is not None else {})


def _object(required: tuple[str, ...] = (), closed: bool = True, **members: Any) -> Json:
    told: Json = {"type": "object", "properties": members, "required": list(required)}
    return told | ({"additionalProperties": False} if closed else {})


def _documents() -> Json:
    """The schema of documents, its definitions beside it."""
    whole = schema.schema()
    parts = _moved(whole.pop("$defs"))
    for name in ("$schema", "$id"):
        whole.pop(name)
    return {**parts, "Document": _moved(whole)}


def _moved(told: Any) -> Any:
    """The same with references to where OpenAPI has schemas."""
    if isinstance(told, dict):
        return {
            name: value.replace("#/$defs/", _PLACE) if name == "$ref" else _moved(value) for name, value in told.items()
        }
    return [_moved(value) for value in told] if isinstance(told, list) else told


def _cells(settings: Settings) -> Json:
    name = {"type": "string", "description": "Its name; a number where it has none."}
    by_gene = {
        "type": "object",
        "additionalProperties": {"type": "number"},
        "description": "Gene to value: names of the vocabulary, or Ensembl ids with or without a version.",
    }
    lists = _object(
        ("genes", "values"),
        cell=name,
        genes={"type": "array", "items": _TEXT},
        values={"type": "array", "items": {"type": "number"}, "description": "One for each gene."},
    )
    cells = {"type": "array", "items": ref("Cell"), "minItems": 1, "maxItems": settings.max_cells}
    model = {"type": "string", "description": "Name of the model; the first one where none is named."}
    return {
        "Cell": {"anyOf": [_object(("genes",), cell=name, genes=by_gene), lists]},
        "EmbedAsked": _object(("cells",), cells=cells, model=model),
        "AnnotateAsked": _object(("cells",), True, cells=cells, model=model, **options()),
    }


def options() -> Json:
    """The options of ``annotate``."""
    return {
        "top": {
            "type": "integer",
            "minimum": 1,
            "maximum": MOST_CANDIDATES,
            "default": 3,
            "description": "Labels that are told of each cell, best first.",
        },
        "unknown_below": {
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "description": "A cell whose best label has less confidence is called unknown; 0.5 for a classifier.",
        },
        "with_vectors": {
            "type": "boolean",
            "default": False,
            "description": "Whether each cell's vector comes with its labels.",
        },
    }


def _models() -> Json:
    texts = {"type": "array", "items": _TEXT}
    return {
        "Refusal": _object(("error", "code", "request_id"), error=_TEXT, code=_TEXT, request_id=_TEXT),
        "Model": _object(
            ("name", "generation", "state", "reason"),
            closed=False,
            name=_TEXT,
            generation={**_COUNT, "description": "Raised each time the model is loaded anew."},
            state={"enum": _STATES},
            reason={"type": "string", "description": "Why it is not ready."},
            vector_id=_TEXT,
            dim=_COUNT,
            key={"type": "string", "description": "Where the vectors lie in obsm."},
            takes_zeros={"type": "boolean", "description": "Whether zeros are of use to the model."},
            max_length={**_COUNT, "description": "Most tokens of a cell."},
            n_genes=_COUNT,
            tasks=texts,
            labels=texts,
            licence=_TEXT,
            run=ref("run"),
        ),
        "Models": _object(("models",), models={"type": "array", "items": ref("Model")}),
        "Ready": _object(
            ("status", "models"),
            status={"enum": ["ready", "not ready"]},
            models={"type": "array", "items": _object(("name", "state"), name=_TEXT, state=_TEXT, reason=_TEXT)},
        ),
    }


def _jobs() -> Json:
    time = {"type": ["string", "null"], "format": "date-time"}
    result = _object(
        ("name", "bytes", "content_type", "href"), name=_TEXT, bytes=_COUNT, content_type=_TEXT, href=_TEXT
    )
    job = _object(
        ("id", "state", "task", "model", "name", "created", "cells_done", "cells", "error", "results", "summary"),
        closed=False,
        id=_TEXT,
        state={"enum": ["queued", "running", "succeeded", "failed", "cancelled"]},
        task={"enum": list(TASKS)},
        model=_TEXT,
        name=_TEXT,
        output={"enum": sorted({output for outputs in OUTPUTS.values() for output in outputs})},
        created={"type": "string", "format": "date-time"},
        ended=time,
        expires=time,
        cells_done=_COUNT,
        cells={"type": ["integer", "null"], "minimum": 0, "description": "null until the file has been looked into."},
        error={"type": ["string", "null"]},
        results={"type": "array", "items": result},
        summary={"type": ["object", "null"]},
    )
    return {"Job": job, "Jobs": _object(("jobs",), jobs={"type": "array", "items": ref("Job")})}


def _protocol() -> Json:
    """Messages of the Open Inference Protocol; members that it does not know are let pass, as it says."""
    tensor = {"name": _TEXT, "datatype": _TEXT, "shape": {"type": "array", "items": {"type": "integer"}}}
    parameters = {"type": "object"}
    asked = _object(
        ("name", "shape", "datatype"), closed=False, **tensor, parameters=parameters, data={"type": "array"}
    )
    return {
        "Tensor": _object(("name", "datatype", "shape"), closed=False, **tensor),
        "InferAsked": _object(
            ("inputs",),
            closed=False,
            id=_TEXT,
            parameters=parameters,
            inputs={"type": "array", "items": asked},
            outputs={"type": "array", "items": _object(("name",), closed=False, name=_TEXT, parameters=parameters)},
        ),
        "Inferred": _object(
            ("model_name", "outputs"),
            closed=False,
            model_name=_TEXT,
            model_version=_TEXT,
            id=_TEXT,
            parameters=parameters,
            outputs={"type": "array", "items": asked},
        ),
        "ServerMetadata": _object(
            ("name", "version", "extensions"), name=_TEXT, version=_TEXT, extensions={"type": "array", "items": _TEXT}
        ),
        "ModelMetadata": _object(
            ("name", "versions", "platform", "inputs", "outputs"),
            closed=False,
            name=_TEXT,
            versions={"type": "array", "items": _TEXT},
            platform=_TEXT,
            inputs={"type": "array", "items": ref("Tensor")},
            outputs={"type": "array", "items": ref("Tensor")},
            parameters=parameters,
        ),
        "Repository": {
            "type": "array",
            "items": _object(
                ("name", "version", "state", "reason"), name=_TEXT, version=_TEXT, state=_TEXT, reason=_TEXT
            ),
        },
    }
