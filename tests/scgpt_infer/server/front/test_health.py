"""What probes and scrapers are told."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
from starlette.routing import Router

from scgpt_infer.server import metrics
from scgpt_infer.server.desk import Status
from scgpt_infer.server.front.door import Door
from scgpt_infer.server.front.health import routes
from scgpt_infer.server.settings import ModelAsked, Settings
from tests.scgpt_infer.server.bridge import Bridge
from tests.scgpt_infer.server.fake_desk import FakeDesk


class Desk(FakeDesk):
    """One whose models are as a test says."""

    def statuses(self):
        return [Status("demo", 1, "ready"), Status("human", 1, "failed", "Its weights are others.")]


@contextmanager
def client_of(desk):
    door = Door(desk, Settings(models=(ModelAsked("demo", "demo"),)))
    with httpx.Client(transport=Bridge(Router(routes(door))), base_url="http://server") as client:
        yield client


def test_a_server_lives_though_it_is_not_ready_and_says_why():
    desk = Desk()
    desk.ready = False
    with client_of(desk) as client:
        assert client.get("/livez").status_code == 200
        answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {
        "status": "not ready",
        "models": [
            {"name": "demo", "state": "ready"},
            {"name": "human", "state": "failed", "reason": "Its weights are others."},
        ],
    }


def test_a_server_that_is_ready_says_so_to_heads_too():
    with client_of(Desk()) as client:
        assert client.get("/readyz").json()["status"] == "ready"
        assert client.head("/readyz").status_code == 200


def test_metrics_are_text_that_prometheus_reads():
    with client_of(FakeDesk()) as client:
        answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "# TYPE scgpt_infer_requests_in_flight gauge" in answer.text


def test_scrapes_take_one_thread_however_many_come(monkeypatch):
    now, most = [0], [0]

    def exposition():
        now[0] += 1
        most[0] = max(most[0], now[0])
        time.sleep(0.005)
        now[0] -= 1
        return b"counts 1\n", "text/plain"

    monkeypatch.setattr(metrics, "exposition", exposition)
    with client_of(FakeDesk()) as client, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: client.get("/metrics").text, range(16)))
    assert answers == ["counts 1\n"] * 16
    assert most == [1]
