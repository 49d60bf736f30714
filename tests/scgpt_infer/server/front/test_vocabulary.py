from collections.abc import Iterator

import httpx
import pytest
from starlette.routing import Router

from scgpt_infer.server.front import vocabulary
from scgpt_infer.server.front.door import Door
from scgpt_infer.server.front.entry import Entry
from scgpt_infer.server.settings import ModelAsked, Settings
from scgpt_runtime.vocab import Vocabulary
from tests.scgpt_infer.server.bridge import Bridge
from tests.scgpt_infer.server.fake_desk import FakeDesk, demo_here


@pytest.fixture
def asked() -> Iterator[httpx.Client]:
    door = Door(FakeDesk(), Settings((ModelAsked("demo", "demo"),)))
    with httpx.Client(base_url="http://s", transport=Bridge(Entry(Router(vocabulary.routes(door)), 8))) as client:
        yield client


def test_it_is_the_vocabulary_of_the_model(asked):
    answer = asked.get("/v1/models/demo/vocabulary")
    assert Vocabulary.from_json(answer.content) == demo_here().vocabulary
    assert answer.headers["content-encoding"] == "gzip"
    plain = asked.get("/v1/models/demo/vocabulary", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == answer.content


def test_who_has_it_gets_it_no_second_time(asked):
    mark = asked.get("/v1/models/demo/vocabulary").headers["etag"]
    again = asked.get("/v1/models/demo/vocabulary", headers={"if-none-match": mark})
    assert (again.status_code, again.content) == (304, b"")


def test_a_model_that_is_not_there_has_none(asked):
    assert asked.get("/v1/models/other/vocabulary").status_code == 404
