"""A client of ``scgpt-infer serve``: `Client`, and `AsyncClient` for programs with an event loop.

Cells as users have them go to a server, and come back as `scgpt_infer.embed` gives them. It opens no model.
"""

from scgpt_runtime.errors import MissingDependencyError

try:
    import httpx  # noqa: F401, what is missing is told here, and not by a traceback from within
except ImportError as error:
    raise MissingDependencyError(
        'The client needs httpx, which is not installed: pip install "scgpt-infer[client]".'
    ) from error

from scgpt_infer.client.async_client import AsyncClient
from scgpt_infer.client.client import Client
from scgpt_infer.client.errors import (
    BrokenServerError,
    BusyError,
    DeadlineError,
    JobFailedError,
    ModelExchangedError,
    ProtocolError,
    RefusedError,
    ServerError,
    UnreachableError,
)
from scgpt_infer.client.models import ServedModel
from scgpt_infer.client.question import Rows
from scgpt_infer.client.retrying import Retry
from scgpt_infer.client.served_job import JobOptions, JobResult, ServedJob
from scgpt_infer.client.terms import ReadOptions

__all__ = [
    "AsyncClient",
    "BrokenServerError",
    "BusyError",
    "Client",
    "DeadlineError",
    "JobFailedError",
    "JobOptions",
    "JobResult",
    "ModelExchangedError",
    "ProtocolError",
    "ReadOptions",
    "RefusedError",
    "Retry",
    "Rows",
    "ServedJob",
    "ServedModel",
    "ServerError",
    "UnreachableError",
]
