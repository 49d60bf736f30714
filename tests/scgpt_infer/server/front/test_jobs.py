"""Whole files over HTTP: what is taken, what is told, who sees it, what is left of what is refused."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from starlette.routing import Router

from scgpt_infer.server.front import jobs
from scgpt_infer.server.front.door import Door
from scgpt_infer.server.front.entry import Entry
from scgpt_infer.server.front.keys import Keys
from scgpt_infer.server.jobs.receiving import Bounds, received
from scgpt_infer.server.jobs.records import Ended, Made
from scgpt_infer.server.jobs.store import JobStore
from scgpt_infer.server.refusals import NoRoom, TooLarge, TooSlow, Unprocessable
from scgpt_infer.server.settings import ModelAsked, Settings
from scgpt_infer.server.uploads import Checked, Chosen
from tests.scgpt_infer.server.bridge import Bridge
from tests.scgpt_infer.server.fake_desk import FakeDesk, demo_here

CSV = b"cell,CD3D,LYZ\nA,1,2\nB,3,4\n"
MODEL = (ModelAsked("demo", "demo"),)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(MODEL, jobs_dir=tmp_path / "jobs", job_ttl=100.0)


@pytest.fixture(autouse=True)
def _looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking into files has tests of its own, and takes a process."""

    async def checked(path: Path, name: str, limits: object, chosen: object) -> Checked:
        return Checked(".csv", 2, 2)

    monkeypatch.setattr(jobs, "checked", checked)


@pytest.fixture
def client(settings: Settings) -> Iterator[Callable[..., httpx.Client]]:
    bridges: list[Bridge] = []

    def client(key: str | None = None, desk: FakeDesk | None = None, **changes: object) -> httpx.Client:
        told = replace(settings, **changes)
        keys = None if told.keys_file is None else Keys(told.keys_file)
        router = Router(jobs.routes(Door(desk or FakeDesk(), told)), redirect_slashes=False)
        bridges.append(Bridge(Entry(router, 8, keys)))
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.Client(transport=bridges[-1].__enter__(), base_url="http://test", headers=headers)

    yield client
    for bridge in bridges:
        bridge.__exit__()


@pytest.fixture
def store(settings: Settings) -> JobStore:
    assert settings.jobs_dir is not None
    return JobStore(settings.jobs_dir)


def _post(client: httpx.Client, body: bytes = CSV, **query: object) -> httpx.Response:
    return client.post("/v1/jobs", params={"name": "pbmc.csv", "output": "json", **query}, content=body)


def _end(store: JobStore, job_id: str, files: dict[str, bytes]) -> None:
    job = store.find(job_id)
    assert job is not None
    job.results.mkdir()
    for name, content in files.items():
        (job.results / name).write_bytes(content)
    made = tuple(Made(name, len(content)) for name, content in files.items())
    assert store.end(job, Ended("succeeded", time.time(), made=made, summary={"n_cells": 2}))


def test_a_file_becomes_a_job_whose_results_are_downloaded_and_which_goes_away(client, store):
    asking = client()
    answer = _post(asking, task="annotate", top=1)
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert (job["state"], job["task"], job["model"], job["name"]) == ("queued", "annotate", "demo", "pbmc.csv")
    assert store.find(job["id"]).upload.read_bytes() == CSV
    result = f"/v1/jobs/{job['id']}/results/pbmc.annotated.json"
    assert asking.get(result).status_code == 409

    _end(store, job["id"], {"pbmc.annotated.json": b"{}", "pbmc.report.html": b"<!doctype html>"})
    job = asking.get(f"/v1/jobs/{job['id']}").json()
    assert (job["state"], job["summary"]) == ("succeeded", {"n_cells": 2})
    assert [(one["name"], one["bytes"], one["content_type"]) for one in job["results"]] == [
        ("pbmc.annotated.json", 2, "application/json"),
        ("pbmc.report.html", 15, "text/html; charset=utf-8"),
    ]
    found = asking.get(job["results"][0]["href"])
    assert found.content == b"{}"
    assert found.headers["Content-Disposition"] == 'attachment; filename="pbmc.annotated.json"'
    assert found.headers["X-Content-Type-Options"] == "nosniff"  # once
    page = asking.get(job["results"][1]["href"])
    assert page.headers["Content-Security-Policy"].startswith("sandbox")  # words of a stranger's file
    assert asking.get(f"/v1/jobs/{job['id']}/results/end.json").status_code == 404

    assert asking.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert asking.get(f"/v1/jobs/{job['id']}").status_code == 404
    assert list(store.root.iterdir()) == []


def test_a_job_that_has_not_ended_is_cancelled(client, store):
    asking = client()
    job = _post(asking).json()
    answer = asking.delete(f"/v1/jobs/{job['id']}")
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert not store.find(job["id"]).upload.exists()


def test_jobs_are_listed_the_newest_first(client):
    asking = client()
    first, second = _post(asking).json(), _post(asking).json()
    assert [job["id"] for job in asking.get("/v1/jobs").json()["jobs"]] == [second["id"], first["id"]]


def test_a_job_is_seen_by_its_own_key_alone(client, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("anna:a-key-of-anna\nben:a-key-of-ben\n")
    anna, ben = client("a-key-of-anna", keys_file=keys), client("a-key-of-ben", keys_file=keys)
    job = _post(anna).json()
    assert anna.get(f"/v1/jobs/{job['id']}").status_code == 200
    assert [ben.request(method, f"/v1/jobs/{job['id']}").status_code for method in ("GET", "DELETE")] == [404, 404]
    assert ben.get("/v1/jobs").json() == {"jobs": []}


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ({"name": ""}, 400, "no name"),
        ({"name": "../x.csv"}, 422, "no path"),
        ({"name": "x.pkl"}, 422, "no format"),
        ({"output": "npz"}, 400, "h5ad"),
        ({"model": "nobody"}, 404, "no model"),
        ({"colour": "red"}, 400, "no parameter"),
        ({"model": ""}, 400, "model is empty"),
        ({"top": ["1", "5"]}, 400, "top is there more than once"),
        ({"model": ["demo", "demo"]}, 400, "model is there more than once"),
    ],
)
def test_what_can_be_refused_without_the_file_is(client, store, query, status, words):
    answer = _post(client(), **query)
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert list(store.root.iterdir()) == []


def test_a_file_is_looked_at_as_it_is_to_be_read_and_refused_in_words_of_the_query(client, store, monkeypatch):
    looked: list[Chosen] = []

    async def checked(path: Path, name: str, limits: object, chosen: Chosen) -> Checked:
        looked.append(chosen)
        raise Unprocessable("Choose one (--modality).")

    monkeypatch.setattr(jobs, "checked", checked)
    answer = _post(client(), layer="raw", modality="GRCh38", cells_in="columns", gene_col="symbol")
    assert looked == [Chosen("raw", "GRCh38", "columns", "symbol")]
    assert (answer.status_code, answer.json()["error"]) == (422, "Choose one (modality).")
    assert list(store.root.iterdir()) == []


def test_a_model_is_asked_for_what_it_can_alone(client):
    answer = _post(client(desk=FakeDesk(replace(demo_here(), abilities=("embed",)))), task="annotate")
    assert answer.status_code == 422
    assert "cannot annotate" in answer.json()["error"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Content-Encoding": "gzip"}, 415), ({"Content-Type": "multipart/form-data; boundary=x"}, 415)],
)
def test_a_body_that_is_no_plain_file(client, store, headers, status):
    answer = client().post("/v1/jobs", params={"name": "pbmc.csv"}, content=CSV, headers=headers)
    assert answer.status_code == status
    assert list(store.root.iterdir()) == []


def test_limits_of_size_room_and_number(client, store, monkeypatch):
    assert _post(client(max_upload_bytes=10)).status_code == 413
    assert _post(client(jobs_max_bytes=10)).status_code == 507
    assert _post(client(), b"").status_code == 400
    assert list(store.root.iterdir()) == []
    monkeypatch.setattr(jobs, "MOST_OPEN", 1)
    assert _post(client()).status_code == 202
    full = _post(client())
    assert (full.status_code, full.headers["Retry-After"]) == (429, "60")


def test_without_a_folder_there_are_no_jobs(client):
    assert _post(client(jobs_dir=None)).status_code == 404


def _receive(pieces: AsyncIterator[bytes], store: JobStore, told: int | None = None, **bounds: float) -> int:
    most = Bounds(**{"file_bytes": 100, "all_bytes": 1000, "silent_seconds": 5.0, **bounds})
    return asyncio.run(received(pieces, told, store.begin() / "upload" / "cells.csv", store, most))


async def _pieces(*pieces: bytes, then: BaseException | None = None) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
    if then is not None:
        raise then


async def _silence() -> AsyncIterator[bytes]:
    yield b"x"
    await asyncio.Event().wait()


def test_room_is_kept_for_an_upload_from_its_first_byte(store):
    seen: list[int] = []

    async def pieces() -> AsyncIterator[bytes]:
        seen.append(store.used_bytes())
        yield b"x" * 60

    assert _receive(pieces(), store, told=60) == 60
    assert seen == [60]
    with pytest.raises(NoRoom):
        _receive(_pieces(b"y" * 50), store, told=50, all_bytes=100)


def test_an_upload_that_does_not_tell_its_size_is_measured_as_it_comes(store):
    with pytest.raises(TooLarge):
        _receive(_pieces(b"x" * 60, b"x" * 60), store)


def test_an_upload_that_stops_is_ended(store):
    with pytest.raises(TooSlow):
        _receive(_silence(), store, silent_seconds=0.01)


def test_a_client_that_leaves_in_the_middle_leaves_nothing(settings, store):
    messages = [{"type": "http.request", "body": CSV, "more_body": True}, {"type": "http.disconnect"}]
    sent: list[object] = []

    async def receive() -> dict[str, object]:
        assert messages[0]["type"] == "http.request" or any(store.root.iterdir())
        return messages.pop(0)

    async def send(message: object) -> None:
        sent.append(message)

    query = b"name=pbmc.csv"
    scope = {"type": "http", "method": "POST", "path": "/v1/jobs", "query_string": query, "headers": [], "client": None}
    asyncio.run(Entry(Router(jobs.routes(Door(FakeDesk(), settings))), 8)(scope, receive, send))
    assert sent == []
    assert list(store.root.iterdir()) == []
