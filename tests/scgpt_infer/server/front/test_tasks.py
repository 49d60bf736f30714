"""Routes of the tasks that are no matter of single cells, before a desk without a model."""

import asyncio
import json
import re
from typing import Any

import httpx
import pytest
from starlette.routing import Router

from scgpt_infer.server.front import tasks
from scgpt_infer.server.front.door import Door
from scgpt_infer.server.front.entry import Entry
from scgpt_infer.server.refusals import QueueFull
from scgpt_infer.server.settings import ModelAsked, Settings
from tests.scgpt_infer.server.fake_desk import FakeDesk, demo_here

CELLS = [{"cell": "a", "genes": {"LYZ": 3, "CD3D": 1.5}}, {"genes": ["MS4A1"], "values": [2], "obs": {"day": "1"}}]


def posted(path: str, body: Any, desk: FakeDesk | None = None, **headers: str) -> tuple[httpx.Response, FakeDesk]:
    desk = desk or FakeDesk()
    settings = Settings((ModelAsked("demo", "demo"),), max_cells=3, max_genes=3)
    entry = Entry(Router(tasks.routes(Door(desk, settings)), redirect_slashes=False), 8)

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(entry, client=("10.1.2.3", 5))
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        told = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.post(path, content=content, headers=told)

    return asyncio.run(run()), desk


def test_a_task_is_handed_on_as_it_was_asked_and_its_document_comes_back():
    asked = {"cells": CELLS, "genes": ["CD4"], "hide": "each"}
    answer, desk = posted("/v1/impute", asked)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-vector-id"] == demo_here().vector_id == answer.json()["run"]["vector_id"]
    assert desk.called == [("impute", asked)]


def test_tasks_without_cells_need_none():
    answer, desk = posted("/v1/genes", {"only": ["LYZ"]})
    assert (answer.status_code, desk.called) == (200, [("genes", {"only": ["LYZ"]})])


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "said"),
    [
        ("/v1/impute", b"{", {}, 400, "cannot be read as JSON"),
        ("/v1/integrate", b'{"cells": [{"genes": {"LYZ": 1, "LYZ": 2}}]}', {}, 422, "'LYZ' twice in an object"),
        ("/v1/impute", {"cells": CELLS}, {}, 422, "missing required field `genes`"),
        ("/v1/integrate", {"cells": CELLS * 2}, {}, 413, "more than 3 cells"),
        ("/v1/integrate", {"cells": CELLS, "model": "other"}, {}, 404, "no model 'other'"),
        ("/v1/integrate?model=other", {"cells": CELLS}, {}, 404, "no model 'other'"),
        ("/v1/integrate?top=3", {"cells": CELLS}, {}, 422, "no option 'top'"),
        ("/v1/integrate?model=demo&model=other", {"cells": CELLS}, {}, 422, "'model' twice"),
        ("/v1/integrate?model=", {"cells": CELLS}, {}, 422, "expected the name of a model"),
        ("/v1/integrate", {"cells": CELLS, "model": ""}, {}, 422, "expected the name of a model"),
        ("/v1/perturb", {"cells": CELLS, "perturbations": ["LYZ"]}, {}, 422, "cannot perturb.*It can embed"),
        ("/v1/integrate", {"cells": CELLS}, {"Accept": "application/x-npy"}, 406, "application/json"),
        ("/v1/integrate", b"x", {"Content_Type": "text/csv"}, 415, "application/json"),
        ("/v1/integrate", {"cells": CELLS}, {"X_Request_Timeout_Ms": "0"}, 504, "0 ms"),
    ],
)
def test_what_cannot_be_answered_says_why(path, body, headers, status, said):
    answer, desk = posted(path, body, **headers)
    assert answer.status_code == status
    assert re.search(said, answer.json()["error"])
    assert not desk.called


def test_a_refusal_of_the_model_is_passed_on():
    desk = FakeDesk()
    desk.refuses = QueueFull("16 calls wait already.", 2.2)
    answer, _ = posted("/v1/genes", {}, desk)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
