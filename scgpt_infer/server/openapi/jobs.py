"""Paths of whole files; none where a server takes none."""

from typing import Any, Final

from scgpt_infer.options import CHOICES
from scgpt_infer.server.jobs.asked import OUTPUTS, TASKS
from scgpt_infer.server.jobs.documents import CONTENT_TYPES
from scgpt_infer.server.openapi.native import MODEL
from scgpt_infer.server.openapi.parts import Json, body, given, operation, query, ref
from scgpt_infer.server.openapi.schemas import options
from scgpt_infer.server.settings import Settings
from scgpt_infer.server.uploads import SUFFIXES

__all__ = ["paths"]

_JSON: Final = "application/json"
_FILE: Final[Json] = {"type": "string", "contentMediaType": "application/octet-stream"}
_FLAG: Final[Json] = {"type": "boolean"}
_TEXT: Final[Json] = {"type": "string", "minLength": 1}


def paths(settings: Settings) -> dict[str, Any]:
    """Paths with their operations."""
    if settings.jobs_dir is None:
        return {}
    outputs = sorted({output for outputs in OUTPUTS.values() for output in outputs})
    asked = (
        query(
            "name",
            {"type": "string", "pattern": _named()},
            "Name of the file; its suffix tells the format.",
            required=True,
        ),
        query("task", {"enum": list(TASKS)}, "What is made of it; annotate where none is named."),
        query("output", {"enum": outputs}, "Format of the result; npy goes with embed alone."),
        query("report", _FLAG, "Whether a page about the result is made; it goes with h5ad alone."),
        query("layer", _TEXT, "Layer with the expression values."),
        query("modality", _TEXT, "Of a file with several, the one that is read; that of RNA where none is named."),
        query("cells_in", {"enum": list(CHOICES["cells_in"])}, "Where the cells of a table are; found out otherwise."),
        query("gene_col", _TEXT, "Column of var with the gene names."),
        query("obs_only", _FLAG, "Leave the matrices out of an h5ad."),
        *(query(name, told, told["description"]) for name, told in options().items()),
        MODEL,
    )
    job = {_JSON: ref("Job")}
    return {
        "/v1/jobs": {
            "post": operation(
                "jobs",
                "submit",
                "Upload a file",
                {202: _accepted()},
                (400, 404, 408, 409, 413, 415, 422, 507),
                asked,
                body(
                    "The bytes of an .h5ad, a 10x .h5, or a .csv, .tsv or .txt, also .gz.",
                    {"application/octet-stream": _FILE},
                ),
            ),
            "get": operation("jobs", "jobs", "All jobs", {200: given("Newest first.", {_JSON: ref("Jobs")})}),
        },
        "/v1/jobs/{id}": {
            "get": operation("jobs", "job", "A job", {200: given("A job.", job)}, (404,), (_part("id"),)),
            "delete": operation(
                "jobs",
                "end",
                "End a job, or remove one that has ended",
                {200: given("It is cancelled.", job), 204: given("It is gone.")},
                (404,),
                (_part("id"),),
            ),
        },
        "/v1/jobs/{id}/results/{name}": {
            "get": operation(
                "jobs",
                "result",
                "A result",
                {200: given("The file.", {kind.split(";")[0]: _FILE for kind in CONTENT_TYPES.values()})},
                (404, 409),
                (_part("id"), _part("name")),
            )
        },
    }


def _named() -> str:
    """The pattern of names with a suffix that is taken, in small letters or capital ones."""
    either = "|".join("".join(f"[{letter}{letter.upper()}]" for letter in suffix[1:]) for suffix in SUFFIXES)
    return rf"^[^/]+\.({either})$".replace("[..]", "[.]")


def _accepted() -> Json:
    told = given("It waits.", {_JSON: ref("Job")})
    told["headers"]["Location"] = {"description": "Path of the job.", "schema": {"type": "string"}}
    return told


def _part(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
