"""A job as clients see it: `document`, plain values for JSON. It reads no file of its own."""

from datetime import UTC, datetime
from typing import Any, Final

from scgpt_infer.server.jobs.records import Job, Made

__all__ = ["CONTENT_TYPES", "content_type", "document"]

CONTENT_TYPES: Final = {
    "csv": "text/csv; charset=utf-8",
    "h5ad": "application/x-hdf5",
    "html": "text/html; charset=utf-8",
    "json": "application/json",
    "npy": "application/x-npy",
    "parquet": "application/vnd.apache.parquet",
    "txt": "text/plain; charset=utf-8",
}
"""Of results, by suffix."""


def document(job: Job, ttl: float) -> dict[str, Any]:
    """What is told of a job.

    Parameters
    ----------
    job
        The job.
    ttl
        Seconds for which an ended job is kept.
    """
    asked, ended = job.submitted.asked, job.ended
    return {
        "id": job.id,
        "state": job.state,
        "task": asked.task,
        "model": asked.model,
        "name": asked.name,
        "output": asked.output,
        "created": _time(job.submitted.created),
        "ended": None if ended is None else _time(ended.at),
        "expires": None if ended is None else _time(ended.at + ttl),
        "cells_done": job.progress.cells_done,
        "cells": job.progress.cells,
        "error": None if ended is None else ended.error,
        "results": [] if ended is None else [_result(job, made) for made in ended.made],
        "summary": None if ended is None else ended.summary or None,
    }


def content_type(name: str) -> str:
    """The content type of a result."""
    return CONTENT_TYPES.get(name.rpartition(".")[2], "application/octet-stream")


def _result(job: Job, made: Made) -> dict[str, Any]:
    return {
        "name": made.name,
        "bytes": made.bytes,
        "content_type": content_type(made.name),
        "href": f"/v1/jobs/{job.id}/results/{made.name}",
    }


def _time(seconds: float) -> str:
    """RFC 3339, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
