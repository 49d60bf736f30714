"""Requests of both clients: how many, in what order, with what headers."""

import asyncio
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from scgpt_infer.client import RefusedError, forms
from tests.scgpt_infer.client.stand import BAD, embed, served
from tests.scgpt_infer.server.fake_desk import demo_here


def test_answers_come_in_order_whatever_the_order_of_the_server(server, cells, expected):
    async def run() -> list[Any]:
        async with server.awaited(in_flight=5) as client:
            return [rows async for rows in client.stream(cells, task="annotate")]

    with server.client(in_flight=5) as client:
        blocking = list(client.stream(cells, task="annotate"))
    for found in (blocking, asyncio.run(run())):
        np.testing.assert_array_equal(np.vstack([rows.vectors for rows in found]), expected)
        assert [name for rows in found for name in rows.cells] == cells.obs_names.tolist()
        assert [rows.first_row for rows in found] == [0, 20, 40, 60, 80]
        assert found[0].reasons[BAD] == "all values are zero"
        assert found[0].columns["label"][BAD] is None
        assert found[0].columns["label"][0] in (*demo_here().labels, "unknown")


def test_no_more_is_read_than_is_on_its_way(server, cells, monkeypatch):
    sent = []
    real = forms.request_of
    monkeypatch.setattr("scgpt_infer.client.asking.request_of", lambda *told: sent.append(1) or real(*told))
    with server.client(cells_per_request=5, in_flight=3) as client:
        answers = client.stream(cells)
        next(answers)
        assert len(sent) <= 5  # of 18: three on their way, one done, one waiting
        answers.close()


def test_a_vocabulary_is_fetched_once(server, cells):
    with server.client() as client:
        client.embed(cells)
        client.embed(cells)
    asked = [request for request in server.seen if request.url.path.endswith("/vocabulary")]
    assert ["if-none-match" in request.headers for request in asked] == [False, True]


def test_requests_carry_key_deadline_and_name(server, cells):
    with server.client(api_key="secret", timeout=60.0) as client:
        assert "secret" not in repr(client.terms)
        client.embed(cells)
    for request in server.seen:
        assert request.headers["authorization"] == "Bearer secret"
        assert 50_000 < int(request.headers["x-request-timeout-ms"]) <= 60_000
        assert request.headers["user-agent"].startswith("scgpt-infer/")


@pytest.mark.parametrize("way", ["blocking", "awaited"])
def test_a_server_that_takes_fewer_cells_gets_fewer(cells, expected, form, way):
    with served(max_cells=3) as server:
        server.each = 8
        found = embed(server, way, cells)
    np.testing.assert_array_equal(found.obsm["X_scGPT_demo"], expected)
    n_cells = [ask.cells.n_cells for ask in server.asked]
    assert max(n_cells) <= 3
    refused = sum(request.method == "POST" for request in server.seen) - len(n_cells)
    assert refused <= 5 * 3  # those that were made already: 8, then 4 twice; the other 7 are small enough


def test_types_of_requests_that_were_too_large_for_a_proxy(server, cells, expected):
    def before(request: httpx.Request) -> httpx.Response | None:
        too_large = len(request.content) > 3000
        return httpx.Response(413, text="<h1>413 Request Entity Too Large</h1>") if too_large else None

    with server.client() as client:
        whole = client.annotate(cells)
        server.before = before
        found = client.annotate(cells)
        np.testing.assert_array_equal(found.obsm["X_scGPT_demo"], expected)
        pd.testing.assert_frame_equal(found.obs, whole.obs)
        server.before = lambda request: httpx.Response(413) if request.method == "POST" else None
        with pytest.raises(RefusedError, match="answered 413"):
            client.embed(cells)
