import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, Router

from scgpt_infer.server import metrics
from scgpt_infer.server.front.entry import Entry
from scgpt_infer.server.front.forwarded import Network
from scgpt_infer.server.front.keys import Keys
from scgpt_infer.server.refusals import NotReady, QueueFull

Story = Callable[[httpx.AsyncClient], Coroutine[Any, Any, None]]


async def told(request: Request) -> Response:
    """What routes are told of a request."""
    request.state.model = "demo"
    return JSONResponse({"client": request.state.client, "id": request.state.request_id})


async def full(request: Request) -> Response:
    raise QueueFull("Too much waits.", 2.1)


async def loading(request: Request) -> Response:
    raise NotReady("Still loading.")


async def bug(request: Request) -> Response:
    raise KeyError("of /the/server/only")


async def left(request: Request) -> Response:
    raise ClientDisconnect


async def broken(request: Request) -> Response:
    async def pieces() -> Any:
        yield b"half"
        raise OSError("the disk")

    return StreamingResponse(pieces())


HANDLERS = (told, full, loading, bug, left, broken)


def with_client(
    story: Story,
    *,
    most: int = 8,
    keys: Keys | None = None,
    more: tuple[Route, ...] = (),
    trusted: tuple[Network, ...] = (),
) -> Entry:
    routes = [Route(f"/v1/{handler.__name__}", handler) for handler in HANDLERS]
    entry = Entry(Router([*routes, Route("/livez", told), *more], redirect_slashes=False), most, keys, trusted=trusted)

    async def run() -> None:
        transport = httpx.ASGITransport(entry, raise_app_exceptions=False, client=("10.1.2.3", 5))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            async with asyncio.timeout(30):
                await story(client)

    asyncio.run(run())
    return entry


def counted(name: str, **labels: str) -> float:
    """A value of the exposition."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    for line in metrics.exposition()[0].decode().splitlines():
        if line.startswith(f"{name}{{") and all(words in line for words in wanted):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


def test_a_request_has_an_id_and_a_client() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        mine = await client.get("/v1/told", headers={"X-Request-Id": "of-my-own"})
        assert mine.json() == {"client": "10.1.2.3", "id": "of-my-own"}
        assert mine.headers["x-request-id"] == "of-my-own"
        odd = await client.get("/v1/told", headers={"X-Request-Id": "two words" * 50})
        other = await client.get("/v1/told")
        assert len({odd.headers["x-request-id"], other.headers["x-request-id"], "two words" * 50}) == 3
        assert other.json()["id"] == other.headers["x-request-id"]

    with_client(story)


@pytest.mark.parametrize(
    ("path", "status", "code", "headers"),
    [
        ("/v1/full", 429, "queue_full", {"retry-after": "3"}),
        ("/v1/loading", 503, "not_ready", {}),
        ("/v1/bug", 500, "internal", {}),
        ("/v1/nothing", 404, "not_found", {}),
    ],
)
def test_every_error_has_one_form(path: str, status: int, code: str, headers: dict[str, str]) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        answer = await client.get(path, headers={"X-Request-Id": "mine"})
        assert (answer.status_code, answer.json()["code"], answer.json()["request_id"]) == (status, code, "mine")
        assert "/the/server" not in answer.text
        assert headers.items() <= dict(answer.headers).items()
        assert ("retry-after" in answer.headers) == bool(headers)

    with_client(story)


def test_a_method_that_is_not_taken_is_told_which_are() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        answer = await client.delete("/v1/told")
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
        assert "GET" in answer.headers["allow"]

    with_client(story)


def test_half_an_answer_does_not_look_whole() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        answer = await client.get("/v1/broken")  # in this client, which has no connection, the bytes so far
        assert answer.content == b"half"

    before = counted("scgpt_infer_refused_total", code="internal")
    with_client(story)
    assert counted("scgpt_infer_refused_total", code="internal") == before + 1


def test_who_shows_a_key_is_its_owner_and_nobody_else_comes_in(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("lab:secret-of-the-lab\n")

    async def story(client: httpx.AsyncClient) -> None:
        for headers in ({"Authorization": "Bearer secret-of-the-lab"}, {"X-API-Key": "secret-of-the-lab"}):
            assert (await client.get("/v1/told", headers=headers)).json()["client"] == "lab"
        for wrong in ({}, {"X-API-Key": "secret"}):
            answer = await client.get("/v1/told", headers=wrong)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorised")
            assert answer.headers["www-authenticate"] == "Bearer"
        assert (await client.get("/v1/nothing")).status_code == 401  # what there is is nobody else's business
        assert (await client.get("/livez")).status_code == 200

    with_client(story, keys=Keys(tmp_path / "keys"))


@pytest.mark.parametrize(("trusted", "client"), [("10.0.0.0/8", "203.0.113.5"), ("192.0.2.0/24", "10.1.2.3")])
def test_who_asks_through_a_proxy_is_known_where_that_is_trusted(
    trusted: str, client: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(asking: httpx.AsyncClient) -> None:
        answer = await asking.get("/v1/told", headers={"X-Forwarded-For": "198.51.100.9, 203.0.113.5"})
        assert answer.json()["client"] == client

    with caplog.at_level(logging.INFO, "scgpt_infer.server"):
        with_client(story, trusted=(ip_network(trusted),))
    assert vars(caplog.records[0])["client"] == client


def test_more_requests_than_places_are_told_to_come_again() -> None:
    gate, inside = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> Response:
        inside.set()
        await gate.wait()
        return Response("done")

    async def story(client: httpx.AsyncClient) -> None:
        first = asyncio.create_task(client.get("/v1/slow"))
        await inside.wait()
        second = await client.get("/v1/told")
        assert (second.status_code, second.json()["code"], second.headers["retry-after"]) == (429, "queue_full", "1")
        assert (await client.get("/livez")).status_code == 200  # a probe must not fail because of load
        gate.set()
        assert (await first).text == "done"
        assert (await client.get("/v1/told")).status_code == 200

    with_client(story, most=1, more=(Route("/v1/slow", slow),))


def test_what_came_of_a_request_is_counted_under_its_route() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await client.get("/v1/told")
        await client.get("/v1/secret-of-a-user")
        with pytest.raises(AssertionError):  # of this client: it was not answered
            await client.get("/v1/left")

    served = {"route": "/v1/told", "method": "GET", "status": "200"}
    before = [counted("scgpt_infer_requests_total", **served), counted("scgpt_infer_requests_total", status="499")]
    with_client(story)
    after = [counted("scgpt_infer_requests_total", **served), counted("scgpt_infer_requests_total", status="499")]
    assert after == [before[0] + 1, before[1] + 1]
    assert counted("scgpt_infer_request_seconds_count", route="none") > 0
    assert "secret-of-a-user" not in metrics.exposition()[0].decode()
    assert "scgpt_infer_requests_in_flight 0.0" in metrics.exposition()[0].decode()


def test_a_request_has_a_line_in_the_log_and_a_bug_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        await client.get("/v1/told?token=private%0A")
        await client.get("/v1/bug")

    with caplog.at_level(logging.INFO, "scgpt_infer.server"):
        with_client(story)
    line, bug, _ = caplog.records
    facts = vars(line)
    assert (facts["route"], facts["status"], facts["client"], facts["model"]) == ("/v1/told", 200, "10.1.2.3", "demo")
    assert "private" not in json.dumps(facts, default=str)
    assert bug.exc_info is not None
    assert bug.exc_info[0] is KeyError


def test_a_server_that_is_about_to_end_closes_connections_after_their_answers() -> None:
    async def story(client: httpx.AsyncClient) -> None:
        assert "connection" not in (await client.get("/v1/told")).headers
        transport: Any = client._transport
        transport.app.closing = True
        assert (await client.get("/v1/told")).headers["connection"] == "close"

    with_client(story)
