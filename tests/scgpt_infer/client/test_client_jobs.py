"""Whole files through both clients, against a server that is a few lines: `tests/.../server` has the real one."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from scgpt_infer.client import (
    AsyncClient,
    Client,
    DeadlineError,
    JobFailedError,
    JobOptions,
    JobResult,
    ProtocolError,
    Retry,
    UnreachableError,
    jobs,
)
from scgpt_infer.client.messages import Pause, Reply
from scgpt_infer.client.terms import Terms
from scgpt_runtime.errors import CellsError, OptionError, OutputError

SOON = Retry(attempts=3, first=0.0)
RESULT = {
    "name": "made.h5ad",
    "bytes": 6,
    "content_type": "application/x-hdf5",
    "href": "/v1/jobs/j1/results/made.h5ad",
}


def told(state: str = "queued", **others: Any) -> dict[str, Any]:
    """A job as the server tells it."""
    return {
        **{"id": "j1", "state": state, "task": "annotate", "model": "demo", "name": "few.h5ad", "output": "h5ad"},
        **{"created": "2026-01-01T00:00:00.000Z", "ended": None, "expires": None, "cells_done": 0, "cells": None},
        **{"error": None, "results": [], "summary": None},
        **others,
    }


@dataclass
class Jobs:
    """A server of one job."""

    states: list[dict[str, Any]] = field(default_factory=lambda: [told("succeeded", results=[RESULT])])
    content: bytes = b"cells!"
    refusals: list[int] = field(default_factory=list)
    seen: list[httpx.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        self.bodies.append(request.read())
        return self.answer(request)

    def answer(self, request: httpx.Request) -> httpx.Response:
        if self.refusals:
            return httpx.Response(self.refusals.pop(0))
        if request.method == "POST":
            return httpx.Response(202, json=told())
        if request.method == "DELETE":
            return httpx.Response(204)
        if "results" in request.url.path:
            return httpx.Response(200, content=self.content)
        if request.url.path == "/v1/jobs":
            return httpx.Response(200, json={"jobs": self.states})
        return httpx.Response(200, json=self.states.pop(0) if len(self.states) > 1 else self.states[0])

    def client(self) -> Client:
        return Client("http://server", transport=httpx.MockTransport(self), retry=SOON, model="demo")


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "few.h5ad"
    path.write_bytes(bytes(range(256)) * 4096)
    return path


def test_a_file_goes_whole_with_what_shall_become_of_it(file):
    server = Jobs()
    with server.client() as client:
        job = client.submit(file, JobOptions(output="csv", report=True, options={"top": 5, "with_vectors": True}))
    assert (job.id, job.state, job.is_over) == ("j1", "queued", False)
    assert server.bodies == [file.read_bytes()]
    assert server.seen[0].headers["content-length"] == str(file.stat().st_size)
    assert dict(server.seen[0].url.params) == {
        **{"task": "annotate", "output": "csv", "report": "true", "name": "few.h5ad", "model": "demo"},
        **{"top": "5", "with_vectors": "true"},
    }


def test_an_awaited_upload_is_the_same(file):
    server = Jobs()

    async def run() -> None:
        async def handle(request: httpx.Request) -> httpx.Response:
            server.seen.append(request)
            server.bodies.append(await request.aread())
            return server.answer(request)

        async with AsyncClient("http://server", transport=httpx.MockTransport(handle)) as client:
            job = await client.submit(file, JobOptions(task="embed", output="npy"))
            assert (await client.wait(job.id)).state == "succeeded"
            (path,) = await client.fetch(await client.job(job.id), file.parent / "out")
            assert path.read_bytes() == b"cells!"

    asyncio.run(run())
    assert server.bodies[0] == file.read_bytes()
    assert server.seen[0].headers["content-length"] == str(file.stat().st_size)


def test_a_full_server_is_asked_again_with_the_whole_file(file):
    server = Jobs(refusals=[429, 503])
    with server.client() as client:
        client.submit(file)
    assert server.bodies == [file.read_bytes()] * 3


def test_a_file_that_may_have_arrived_is_not_sent_again(file):
    server = Jobs()

    def handle(request: httpx.Request) -> httpx.Response:
        server(request)
        raise httpx.ReadError("reset")

    client = Client("http://server", transport=httpx.MockTransport(handle), retry=SOON)
    with client, pytest.raises(UnreachableError, match="reset"):
        client.submit(file)
    assert len(server.seen) == 1


def test_a_file_that_is_not_there_is_told(tmp_path):
    with Jobs().client() as client, pytest.raises(CellsError, match=r"no file .*none.h5ad"):
        client.submit(tmp_path / "none.h5ad")


def drive(steps, replies: list[dict[str, Any]]) -> tuple[Any, list[float]]:
    """Take steps; pauses are kept, not slept."""
    pauses, reply = [], None
    while True:
        try:
            step = steps.send(reply)
        except StopIteration as end:
            return end.value, pauses
        reply = None
        if isinstance(step, Pause):
            pauses.append(step.seconds)
        else:
            document = replies.pop(0)
            reply = Reply(200, body=httpx.Response(200, json=document).content)


TERMS = Terms("http://server")


def test_a_job_is_looked_at_until_it_is_over():
    seen = []
    states = [told(), told("running", cells_done=3, cells=9), told("running", cells_done=8, cells=9), told("succeeded")]
    steps = jobs.waited(TERMS, "j1", progress=lambda done, cells: seen.append((done, cells)))
    found, pauses = drive(steps, states)
    assert found.state == "succeeded"
    assert seen == [(3, 9), (8, 9)]
    assert pauses == sorted(pauses)


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_job_without_results_is_an_error_with_the_reason(state):
    with pytest.raises(JobFailedError, match=rf"few.h5ad\) ended as {state}: no cells in it"):
        drive(jobs.waited(TERMS, "j1"), [told("running"), told(state, error="no cells in it")])


def test_who_waits_too_long_is_told_that_the_job_goes_on():
    now = iter([0.0, 4.9, 6.0])
    with pytest.raises(DeadlineError, match="running after 5 s and goes on"):
        drive(jobs.waited(TERMS, "j1", timeout=5.0, clock=lambda: next(now)), [told("running")] * 2)


def test_results_lie_in_the_folder_whole(tmp_path):
    server = Jobs()
    with server.client() as client:
        done = client.job("j1")
        assert client.fetch(done, tmp_path / "new" / "folder") == [tmp_path / "new" / "folder" / "made.h5ad"]
        assert client.fetch(done, tmp_path, names=["report.html"]) == []
        assert [job.id for job in client.jobs()] == ["j1"]
        client.cancel("j1")
    assert (tmp_path / "new" / "folder" / "made.h5ad").read_bytes() == b"cells!"
    assert server.seen[-1].method == "DELETE"


@pytest.mark.parametrize("odd", ["", None, 7])
def test_what_is_no_id_of_a_job_is_told(odd):
    server = Jobs()
    with server.client() as client:
        for ask in (client.job, client.wait, client.cancel):
            with pytest.raises(OptionError, match=r"expected the id of a job, such as job\.id"):
                ask(odd)
    assert server.seen == []


def test_half_a_result_never_has_the_name_of_a_whole_one(tmp_path):
    server = Jobs(content=b"cel")
    with server.client() as client, pytest.raises(ProtocolError, match="3 bytes; the job has 6"):
        client.fetch(client.job("j1"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_breaks_begins_anew(tmp_path):
    async def broken() -> AsyncIterator[bytes]:
        yield b"ce"
        raise httpx.ReadError("reset")

    server, streams = Jobs(), iter([True])

    async def handle(request: httpx.Request) -> httpx.Response:
        if "results" in request.url.path and next(streams, False):
            return httpx.Response(200, content=broken())
        return server.answer(request)

    async def run() -> list[Path]:
        async with AsyncClient("http://server", transport=httpx.MockTransport(handle), retry=SOON) as client:
            return await client.fetch(await client.job("j1"), tmp_path)

    (path,) = asyncio.run(run())
    assert path.read_bytes() == b"cells!"


@pytest.mark.parametrize("name", ["../made.h5ad", "/etc/made", "..", "a\\b"])
def test_a_result_that_would_lie_elsewhere_is_refused(tmp_path, name):
    server = Jobs(states=[told("succeeded", results=[{**RESULT, "name": name}])])
    with server.client() as client, pytest.raises(ProtocolError, match="no name of a file"):
        client.fetch(client.job("j1"), tmp_path / "in")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with Jobs().client() as client, pytest.raises(OutputError, match="taken"):
        client.fetch(client.job("j1"), tmp_path / "taken")


def test_a_job_that_cannot_be_read_is_told():
    with pytest.raises(ProtocolError, match="'cells_done'"):
        drive(jobs.job(TERMS, "j1"), [{key: value for key, value in told().items() if key != "cells_done"}])


def test_results_tell_their_size_and_kind():
    with Jobs().client() as client:
        assert client.job("j1").results == (JobResult("made.h5ad", 6, "application/x-hdf5"),)
