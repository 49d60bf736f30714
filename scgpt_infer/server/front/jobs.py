"""Routes of whole files: upload, look, download, cancel. `routes` gives none where there is no folder for jobs.

A request becomes files of the store; the work is done elsewhere. It knows no format.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from scgpt_infer.server.front.body import length_of
from scgpt_infer.server.front.door import Door
from scgpt_infer.server.front.leaving import unless_gone
from scgpt_infer.server.jobs.asked import JobAsked
from scgpt_infer.server.jobs.documents import content_type, document
from scgpt_infer.server.jobs.receiving import Bounds, received, telling_full
from scgpt_infer.server.jobs.records import Ended, Job, Submitted, upload_in
from scgpt_infer.server.jobs.store import JobStore, discard
from scgpt_infer.server.jobs.wording import as_options
from scgpt_infer.server.refusals import BadRequest, Conflict, NotFound, QueueFull, Unprocessable, UnsupportedMedia
from scgpt_infer.server.uploads import Chosen, Limits, checked

__all__ = ["MOST_OPEN", "routes"]

MOST_OPEN: Final = 1000
"""Jobs that may wait or be worked on; the disk is full of small files otherwise."""

_AGAIN_S = 60.0
_LOOKS = 2
"""Files that are looked at at a time."""
_SANDBOX = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data: blob:"
)
"""A report draws with its own scripts, which it names by their digests, and tells words of a stranger's file: it is no
page of this host."""


def routes(door: Door) -> list[BaseRoute]:
    """Routes of jobs.

    Parameters
    ----------
    door
        Models and settings.
    """
    if door.settings.jobs_dir is None:
        return []
    jobs = _Jobs(door, JobStore(door.settings.jobs_dir), asyncio.Semaphore(_LOOKS))
    return [
        Route("/v1/jobs", jobs.all, methods=["GET", "POST"]),
        Route("/v1/jobs/{id}", jobs.each, methods=["GET", "DELETE"]),
        Route("/v1/jobs/{id}/results/{name}", jobs.result, methods=["GET"]),
    ]


@dataclass(frozen=True, slots=True)
class _Jobs:
    door: Door
    store: JobStore
    looks: asyncio.Semaphore

    async def all(self, request: Request) -> Response:
        """A path has one route, so that a refusal of another method names all that it takes."""
        if request.method == "POST":
            return await self.submit(request)
        return await asyncio.to_thread(self.list, request)

    async def each(self, request: Request) -> Response:
        """As `all`."""
        return await asyncio.to_thread(self.delete if request.method == "DELETE" else self.one, request)

    async def submit(self, request: Request) -> Response:
        """Take a file in; what can be refused without it is refused before it is read."""
        asked = self._asked(request)
        _check_plain(request)
        with telling_full():
            job = await self._received(request, asked)
        return self._told(job, 202, {"Location": f"/v1/jobs/{job.id}"})

    async def _received(self, request: Request, asked: JobAsked) -> Job:
        """The job of an upload; what does not become one leaves nothing behind."""
        if await asyncio.to_thread(self.store.n_open) >= MOST_OPEN:
            raise QueueFull(f"{MOST_OPEN:,} jobs wait already. Try again later.", _AGAIN_S)
        folder, job = self.store.begin(), None
        try:
            upload = upload_in(folder, asked.suffix)
            await received(_pieces(request), length_of(request), upload, self.store, self._bounds)
            await unless_gone(request, self._looked_at(upload, asked))
            job = self.store.submit(folder, Submitted(asked, self._owner(request), time.time()))
        finally:
            if job is None:
                discard(folder)
        return job

    async def _looked_at(self, upload: Path, asked: JobAsked) -> None:
        """Look at a file, in turn: the memory that each look may take is not there for all who send files."""
        async with self.looks:
            chosen = Chosen(asked.layer, asked.modality, asked.cells_in, asked.gene_col)
            try:
                await checked(upload, asked.name, Limits(), chosen)
            except Unprocessable as error:
                raise Unprocessable(as_options(str(error))) from error

    def list(self, request: Request) -> Response:
        """All jobs of a client, the newest first."""
        jobs = [job for job in reversed(self.store.all()) if self._is_of(job, request)]
        return JSONResponse({"jobs": [document(job, self.door.settings.job_ttl) for job in jobs]})

    def one(self, request: Request) -> Response:
        """A job."""
        return self._told(self._found(request))

    def delete(self, request: Request) -> Response:
        """End a job that has not ended; remove one that has."""
        job = self._found(request)
        if job.ended is not None:
            self.store.remove(job)
            return Response(status_code=204)
        self.store.end(job, Ended("cancelled", time.time()))
        return self._told(self.store.find(job.id) or job)

    def result(self, request: Request) -> Response:
        """A file that a job has made."""
        job, name = self._found(request), str(request.path_params["name"])
        if job.ended is None:
            raise Conflict(
                f"The job is {job.state} and has no results yet. Look at /v1/jobs/{job.id} until it has ended."
            )
        path = job.results / name
        if name not in {made.name for made in job.ended.made} or not path.is_file():
            raise NotFound(f"The job has no result {name!r}; /v1/jobs/{job.id} lists those that it has.")
        page = name.endswith(".html")
        return FileResponse(
            path,
            filename=name,
            media_type=content_type(name),
            content_disposition_type="inline" if page else "attachment",
            headers={"Cache-Control": "private, no-store"} | ({"Content-Security-Policy": _SANDBOX} if page else {}),
        )

    def _asked(self, request: Request) -> JobAsked:
        query = _query(request)
        here = self.door.desk.here(query.get("model"))
        asked = JobAsked.of({**query, "model": here.name}, here.name)
        if asked.task not in here.abilities:
            raise Unprocessable(f"The model {here.name} cannot {asked.task}; it can {', '.join(here.abilities)}.")
        if asked.output == "parquet" and find_spec("pyarrow") is None:
            raise BadRequest("This server cannot write parquet (pyarrow is not installed). Ask for another output.")
        return asked

    @property
    def _bounds(self) -> Bounds:
        settings = self.door.settings
        return Bounds(settings.max_upload_bytes, settings.jobs_max_bytes, settings.body_seconds)

    def _found(self, request: Request) -> Job:
        """The job that a path names, if it is the client's."""
        job_id = str(request.path_params["id"])
        job = self.store.find(job_id)
        if job is None or not self._is_of(job, request):
            raise NotFound(f"There is no job {job_id!r}. It may have ended long ago: jobs are kept for a time only.")
        return job

    def _is_of(self, job: Job, request: Request) -> bool:
        return self.door.settings.keys_file is None or job.submitted.owner == self._owner(request)

    def _owner(self, request: Request) -> str:
        """Whose a job is: the name of an API key; without keys jobs are everybody's."""
        return str(request.state.client) if self.door.settings.keys_file is not None else ""

    def _told(self, job: Job, status: int = 200, headers: dict[str, str] | None = None) -> Response:
        return JSONResponse(document(job, self.door.settings.job_ttl), status, headers)


def _query(request: Request) -> dict[str, str]:
    """Parameters by name.

    Raises
    ------
    BadRequest
        One is there twice, or `model` is empty.
    """
    query: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in query:
            raise BadRequest(f"{name} is there more than once; expected one value. Leave the others out.")
        query[name] = value
    if query.get("model") == "":
        raise BadRequest("model is empty; expected the name of a model (/v1/models). Give it one, or leave it out.")
    return query


def _check_plain(request: Request) -> None:
    """Make sure that a body is a file as it is.

    Raises
    ------
    UnsupportedMedia
        It is a form, or compressed.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("The body has a Content-Encoding; expected the bytes of the file as they are.")
    if request.headers.get("content-type", "").lower().startswith(("multipart/", "application/x-www-form-urlencoded")):
        raise UnsupportedMedia(
            "The body is a form; expected the bytes of the file alone (curl --data-binary @pbmc.h5ad "
            "-H 'Content-Type: application/octet-stream')."
        )


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    async for piece in request.stream():
        yield piece
