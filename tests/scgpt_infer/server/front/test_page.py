"""The page is there for those who ask for it, whole, and lets nothing in that is not its own."""

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from starlette.routing import Router

from scgpt_infer.server.front import page
from scgpt_infer.server.front.door import Door
from scgpt_infer.server.settings import ModelAsked, Settings
from tests.scgpt_infer.server.fake_desk import FakeDesk


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings((ModelAsked("demo", "demo"),), jobs_dir=tmp_path, ui=True)


def given(settings: Settings, path: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        way = httpx.ASGITransport(Router(page.routes(Door(FakeDesk(), settings))))
        async with httpx.AsyncClient(transport=way, base_url="http://page") as client:
            return await client.get(path)

    return asyncio.run(ask())


def test_all_that_the_page_names_is_there(settings: Settings):
    asked, seen = ["/"], {}
    for path in asked:
        answer = given(settings, path)
        assert answer.status_code == 200, path
        seen[path] = answer
        named = re.findall(r'"(page/[^"]+)"', answer.text)
        named += [f"page/{name}" for name in re.findall(r'"\./([a-z]+\.js)"', answer.text)]
        asked += [f"/{name}" for name in named if f"/{name}" not in asked]
    assert {"/page/page.js", "/page/card.js", "/page/server.js", "/page/style.css", "/page/frame.html"} <= seen.keys()
    assert not [path for path, answer in seen.items() if re.search(r"https?:", answer.text)]  # nothing of other hosts
    assert {answer.headers["content-type"].partition(";")[0] for answer in seen.values()} == {
        "text/html",
        "text/css",
        "text/javascript",
    }


def test_policies_allow_own_scripts_to_the_page_and_no_origin_to_reports(settings: Settings):
    own, frame = (given(settings, path).headers["content-security-policy"] for path in ("/", "/page/frame.html"))
    assert own.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
    assert "unsafe" not in own
    assert "frame-ancestors 'none'" in own
    assert frame.startswith("sandbox allow-scripts allow-downloads; default-src 'none'")
    assert "allow-same-origin" not in frame
    assert "connect-src" not in frame


def test_there_is_none_where_nobody_asked_for_it(settings: Settings):
    assert page.routes(Door(FakeDesk(), replace(settings, ui=False))) == []
