"""Many who send files at once do not take the memory of as many looks at them."""

import asyncio
from pathlib import Path

import httpx
import pytest
from starlette.routing import Router

from scgpt_infer.server.front import jobs
from scgpt_infer.server.front.door import Door
from scgpt_infer.server.front.entry import Entry
from scgpt_infer.server.settings import ModelAsked, Settings
from scgpt_infer.server.uploads import Checked
from tests.scgpt_infer.server.fake_desk import FakeDesk

CSV = b"cell,CD3D\nA,1\n"


def test_files_are_looked_at_two_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    begun: list[Path] = []

    async def story() -> list[int]:
        go_on = asyncio.Event()

        async def checked(path: Path, name: str, limits: object, chosen: object) -> Checked:
            begun.append(path)
            await go_on.wait()
            return Checked(".csv", 1, 1)

        monkeypatch.setattr(jobs, "checked", checked)
        door = Door(FakeDesk(), Settings((ModelAsked("demo", "demo"),), jobs_dir=tmp_path))
        app = Entry(Router(jobs.routes(door)), 8)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            asked = [asyncio.create_task(client.post("/v1/jobs?name=a.csv&output=json", content=CSV)) for _ in range(4)]
            async with asyncio.timeout(20):
                while [one.stat().st_size for one in tmp_path.glob("*/upload/cells.csv")] != [len(CSV)] * 4:
                    await asyncio.sleep(0.005)
                while len(begun) < 2:
                    await asyncio.sleep(0.005)
            for _ in range(100):  # the others have had their turn to begin
                await asyncio.sleep(0)
            assert len(begun) == 2
            go_on.set()
            return [answer.status_code for answer in await asyncio.gather(*asked)]

    assert asyncio.run(story()) == [202] * 4
    assert len(begun) == 4
