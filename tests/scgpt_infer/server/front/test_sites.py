"""A page of another site cannot have a browser load models or send files; programs and our page can."""

import asyncio

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from scgpt_infer.server.front.entry import Entry


def asked(method: str, headers: dict[str, str]) -> httpx.Response:
    async def done(request: Request) -> Response:
        return Response("done")

    async def ask() -> httpx.Response:
        app = Entry(Router([Route("/v1/jobs", done, methods=["GET", "POST", "DELETE"])]), 8)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.request(method, "/v1/jobs", headers=headers)

    return asyncio.run(ask())


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site"])
def test_another_site_has_nothing_done(method: str, site: str):
    answer = asked(method, {"Sec-Fetch-Site": site})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", {}),
        ("POST", {"Sec-Fetch-Site": "same-origin"}),
        ("DELETE", {"Sec-Fetch-Site": "none"}),
        ("GET", {"Sec-Fetch-Site": "cross-site"}),
    ],
)
def test_programs_and_the_page_have(method: str, headers: dict[str, str]):
    assert asked(method, headers).text == "done"
