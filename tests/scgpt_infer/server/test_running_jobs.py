"""Whole files on the real server: the demo's cells become what the command line makes of them."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import httpx
import pytest

from scgpt_infer import demo
from scgpt_infer.api import annotate_file, embed_file
from scgpt_infer.options import EmbedOptions
from tests.scgpt_infer.server.conftest import Running, serving
from tests.scgpt_infer.server.test_running import process_of

CPU = EmbedOptions(provider="cpu")


@pytest.fixture(scope="module")
def client(running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=60) as found:
        yield found


def _done(client: httpx.Client, query: str, cells: Path) -> dict[str, Any]:
    """The job of a file when it has ended."""
    return _ended(client, client.post(f"/v1/jobs?name={cells.name}&{query}", content=cells.read_bytes()).json())


def _ended(client: httpx.Client, told: dict[str, Any]) -> dict[str, Any]:
    until = time.monotonic() + 120
    while told["state"] in ("queued", "running"):
        assert time.monotonic() < until
        time.sleep(0.1)
        told = client.get(f"/v1/jobs/{told['id']}").json()
    return told


def _until_done(url: str, cells: int) -> None:
    until = time.monotonic() + 60
    while (told := httpx.get(url).json())["cells_done"] < cells:
        assert told["state"] in ("queued", "running")
        assert time.monotonic() < until
        time.sleep(0.02)


def _until_told(server: Running, words: str) -> None:
    until = time.monotonic() + 60
    while not any(words in line["message"] for line in server.lines()):
        assert time.monotonic() < until
        time.sleep(0.02)


def _result(client: httpx.Client, job: dict[str, Any], suffix: str) -> bytes:
    (href,) = [one["href"] for one in job["results"] if one["name"].endswith(suffix)]
    return client.get(href).content


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Too few cells for UMAP, which takes its time."""
    path = tmp_path_factory.mktemp("cells") / "few.h5ad"
    ad.read_h5ad(demo.CELLS)[:9].write_h5ad(path)
    return path


def test_vectors_of_a_file_are_those_of_the_command_line_byte_by_byte(client, tmp_path):
    cells = tmp_path / "cells.h5ad"
    ad.read_h5ad(demo.CELLS)[:200].write_h5ad(cells)
    job = _done(client, "task=embed&output=npy", cells)
    assert (job["state"], job["cells_done"], job["cells"]) == ("succeeded", 200, 200)
    embed_file(cells, tmp_path / "own.npy", "demo", CPU)
    assert _result(client, job, ".npy") == (tmp_path / "own.npy").read_bytes()


def test_types_of_a_file_come_with_a_page_about_them(client, few, tmp_path):
    job = _done(client, "task=annotate&output=h5ad", few)
    assert job["state"] == "succeeded", job["error"]
    assert job["summary"]["labels"]
    (tmp_path / "made.h5ad").write_bytes(_result(client, job, "annotated.h5ad"))
    annotate_file(few, tmp_path / "own.h5ad", "demo", CPU)
    made, own = ad.read_h5ad(tmp_path / "made.h5ad"), ad.read_h5ad(tmp_path / "own.h5ad")
    assert made.obs.equals(own.obs)
    assert made.obsm[demo.KEY].tobytes() == own.obsm[demo.KEY].tobytes()
    assert b"<!doctype html>" in _result(client, job, "report.html").lower()


def test_a_job_outlives_its_models_process_and_its_server(tmp_path):
    cells = ad.concat([ad.read_h5ad(demo.CELLS)] * 12, index_unique="-")  # enough that it is at work when it is killed
    cells.write_h5ad(tmp_path / "many.h5ad")
    jobs = os.path.relpath(tmp_path / "jobs")  # as people name folders
    settings = {"jobs_dir": jobs, "options": {"provider": "cpu", "max_length": 100}}  # soon done
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    with serving(tmp_path / "first", **settings) as server:
        asking = f"{server.url}/v1/jobs"
        told = httpx.post(
            asking,
            params={"name": "many.h5ad", "task": "embed", "output": "npy"},
            content=(tmp_path / "many.h5ad").read_bytes(),
        ).json()
        _until_done(f"{asking}/{told['id']}", 1025)  # a block is kept
        os.kill(process_of(server, "seat.process"), signal.SIGKILL)
        _until_told(server, f"job {told['id']} is tried again")
        _until_done(f"{asking}/{told['id']}", 4097)
        server.process.kill()
    with serving(tmp_path / "second", **settings) as server, httpx.Client(base_url=server.url) as client:
        job = _ended(client, told)
        assert job["summary"]["n_kept"] >= 4096
        assert job["summary"]["n_embedded"] == cells.n_obs


def test_a_file_that_is_none_is_refused_before_it_is_a_job(client):
    before = len(client.get("/v1/jobs").json()["jobs"])
    assert client.post("/v1/jobs?name=x.h5ad", content=b"no h5ad at all").status_code == 422
    assert len(client.get("/v1/jobs").json()["jobs"]) == before


def test_jobs_are_counted(client):
    assert 'scgpt_infer_jobs{state="queued"}' in client.get("/metrics").text
