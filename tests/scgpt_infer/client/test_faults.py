"""What both clients make of refusals, broken links, and what is no server of ours."""

import asyncio

import httpx
import numpy as np
import pytest

from scgpt_infer.client import BusyError, ModelExchangedError, ProtocolError, RefusedError, Retry, UnreachableError
from scgpt_infer.server.refusals import QueueFull
from scgpt_runtime.errors import OptionError
from tests.scgpt_infer.client.stand import embed


def test_what_passes_is_asked_again(server, cells, expected):
    refusals = iter([httpx.Response(429, headers={"Retry-After": "0"}), httpx.Response(503), httpx.ReadError("reset")])

    def before(request: httpx.Request) -> httpx.Response | None:
        told = next(refusals, None) if request.url.path == "/v1/embed" else None
        if isinstance(told, Exception):
            raise told
        return told

    server.before = before
    for way in ("blocking", "awaited"):
        np.testing.assert_array_equal(embed(server, way, cells).obsm["X_scGPT_demo"], expected)
    assert sum(request.url.path == "/v1/embed" for request in server.seen) == 5 + 3 + 5


def test_a_server_that_stays_busy_is_told_in_its_own_words(server, cells):
    server.desk.refuses = QueueFull("Too much waits already.")
    with server.client(retry=Retry(attempts=2, first=0.0)) as client, pytest.raises(BusyError) as caught:
        client.embed(cells[:5].copy())
    assert caught.value.code == "queue_full"
    assert "Too much waits already." in str(caught.value)
    assert caught.value.request_id


def test_many_requests_wait_for_a_full_server_and_one_alone_gives_up(server, cells, expected):
    refusals = iter([httpx.Response(429, headers={"Retry-After": "0"})] * 30)
    server.before = lambda request: next(refusals, None) if request.method == "POST" else None
    with server.client(retry=Retry(attempts=2, first=0.0)) as client:
        with pytest.raises(BusyError, match="in 2 attempts"):
            client.embed(cells[:5].copy())
        np.testing.assert_array_equal(client.embed(cells).obsm["X_scGPT_demo"], expected)


def test_a_final_refusal_is_not_repeated(server, cells):
    with server.client() as client, pytest.raises(RefusedError, match="no model 'other'"):
        client.embed(cells, model="other")
    assert len(server.seen) == 1


def test_nobody_there_is_told(server, cells):
    def before(request: httpx.Request) -> None:
        raise httpx.ConnectError("nobody listens")

    server.before = before
    with server.client(retry=Retry(attempts=2, first=0.0)) as client, pytest.raises(UnreachableError, match="nobody"):
        client.embed(cells)


def test_vectors_of_two_models_never_stand_in_one_object(server, cells):
    def before(request: httpx.Request) -> httpx.Response | None:
        if sum(seen.url.path == "/v1/embed" for seen in server.seen) < 3:
            return None
        found = server.bridge.handle_request(request)
        found.headers["x-vector-id"] = "0" * 32
        return found

    server.before = before
    with server.client() as client, pytest.raises(ModelExchangedError, match="loaded anew"):
        client.embed(cells)


def test_what_is_no_server_of_ours_is_told(server, cells):
    server.before = lambda request: httpx.Response(200, text="<html>hello</html>")
    with server.client() as client, pytest.raises(ProtocolError, match="no JSON object"):
        client.embed(cells)


def test_a_client_that_is_closed_says_so(server, cells):
    client, awaited = server.client(), server.awaited()
    client.close()

    async def run() -> None:
        await awaited.close()
        await awaited.embed(cells)

    with pytest.raises(OptionError, match="The client is closed"):
        client.embed(cells)
    with pytest.raises(OptionError, match="The client is closed"):
        asyncio.run(run())
