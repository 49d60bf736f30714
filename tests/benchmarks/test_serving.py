"""The benchmark of the server: load that counts what it should, bodies that hold what they should, tables."""

import asyncio
import io
import json
import time
from dataclasses import replace
from pathlib import Path

import anndata as ad
import httpx
import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.serving import load, tables
from benchmarks.serving.bodies import FORMS, bodies, rows_of
from benchmarks.serving.load import Order, Ready
from benchmarks.serving.simulated import RATE, open_clock
from scgpt_infer.server.front import kserve, native
from scgpt_infer.server.front.door import Door
from scgpt_infer.server.seat.spec import Spec
from scgpt_infer.server.settings import ModelAsked, Settings
from scgpt_runtime.cells import CellBlock
from tests.scgpt_infer.server.fake_desk import FakeDesk, demo_here
from tests.scgpt_infer.server.served import served

HERE = demo_here("model")
GENES = [name for name in HERE.vocabulary.tokens if not name.startswith("<")][:50]
ORDER = Order(0, "", 0, 1, "binary", 4, None, 0.05, 0.4)


@pytest.fixture(scope="module")
def rows():
    return sp.random(12, len(GENES), 0.4, "csr", np.float32, np.random.default_rng(1), data_rvs=np.ones)


@pytest.fixture(scope="module")
def running():
    desk = FakeDesk(HERE)
    door = Door(desk, Settings(models=(ModelAsked("model", "demo"),)))
    with served([*kserve.routes(door), *native.routes(door)]) as url:
        yield desk, url


@pytest.mark.parametrize("form", FORMS)
def test_every_form_tells_the_server_the_same_cells(running, rows, form):
    desk, url = running
    desk.asked.clear()
    for body in bodies(rows, GENES, 5, form, "model"):
        answer = httpx.post(f"http://{url}{body.path}", content=body.data, headers=body.headers)
        assert answer.status_code == 200, answer.text
        assert desk.asked[-1].cells.n_cells == body.cells
    asked = [ask.cells for ask in desk.asked]
    columns = np.array([HERE.vocabulary.index[name] for name in GENES])
    np.testing.assert_array_equal(np.concatenate([cells.tokens for cells in asked]), columns[rows.indices])
    np.testing.assert_array_equal(np.concatenate([cells.values for cells in asked]), rows.data)
    assert [length for cells in asked for length in np.diff(cells.indptr)] == np.diff(rows.indptr).tolist()


def test_answers_come_in_the_form_that_was_asked_for(running, rows):
    _, url = running
    for form, read in {
        "json": lambda data: len(json.loads(data)["cells"]),
        "json-npy": lambda data: len(np.load(io.BytesIO(data))),
        "arrow": lambda data: pa.ipc.open_stream(data).read_all().num_rows,
    }.items():
        (body,) = bodies(rows, GENES, 12, form, "model")
        answer = httpx.post(f"http://{url}{body.path}", content=body.data, headers=body.headers)
        assert read(answer.content) == 12


def test_cells_are_drawn_from_a_file(tmp_path, rows):
    path = Path(tmp_path / "cells.h5ad")
    data = ad.AnnData(rows)
    data.var_names = GENES
    data.write_h5ad(path)
    drawn, names = rows_of(path, 7)
    assert drawn.shape == (7, len(GENES))
    assert names == GENES
    assert rows_of(path, 100)[0].shape[0] == 12


def loaded(url, rows, **how):
    order = replace(ORDER, port=int(url.rpartition(":")[2]), **how)
    made = bodies(rows, GENES, 4, order.form, "model")
    ready = [Ready(load.written(body, order.port), body.cells, number) for number, body in enumerate(made)]
    return asyncio.run(load.run(order, ready))


def test_a_closed_loop_counts_cells_and_times(running, rows):
    found = loaded(running[1], rows)
    assert set(found["statuses"]) == {"200"}
    assert found["cells_per_second"] * found["seconds"] == pytest.approx(4 * found["statuses"]["200"])
    assert 0 < found["answered_ms"]["p50"] <= found["answered_ms"]["max"] < 1000
    assert found["load_cpu_seconds"] > 0
    assert len(found["by_request_ms"]) == 3


def test_an_open_loop_keeps_its_rate_whatever_is_answered():
    async def full(request):
        return Response(b"later", status_code=429, headers={"Retry-After": "3"})

    with served([Route("/v2/models/model/infer", full, methods=["POST"])]) as url:
        rows = sp.csr_matrix(np.ones((4, len(GENES)), np.float32))
        found = loaded(url, rows, rate=200.0, seconds=1.0, connections=50)
    assert found["cells_per_second"] == 0
    assert found["statuses"]["429"] == pytest.approx(200, rel=0.25)
    assert found["refused_ms"]["p50"] > 0
    assert found["answered_ms"] == {}


def test_a_connection_that_breaks_is_counted():
    async def broken(reader, writer):
        await reader.read(1000)
        writer.close()
        await writer.wait_closed()

    async def run():
        server = await asyncio.start_server(broken, "127.0.0.1", 0)
        async with server:
            order = replace(ORDER, port=server.sockets[0].getsockname()[1], connections=1)
            found = await load.run(order, [Ready(b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 1, 0)])
            await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)
            return found

    assert set(asyncio.run(run())["statuses"]) == {str(load.LOST)}


def test_the_clock_stands_in_for_a_model(monkeypatch, rows):
    monkeypatch.setenv(RATE, "100")
    with open_clock(Spec("model", 1, "demo", "")) as opened:
        columns = np.array([HERE.vocabulary.index[name] for name in GENES])
        block = CellBlock(rows.indptr.astype(np.int64), rows.indices.astype(np.int32), rows.data, 0)
        started = time.perf_counter()
        (result,) = opened.engine.run([block], columns)
    assert time.perf_counter() - started >= 12 / 100
    assert result.outputs["cell"].shape == (12, HERE.manifest.dim)


PRESSED = {
    "capacity": 10.0,
    "queue_seconds": 5.0,
    "rate": 20.0,
    "seconds": 600.0,
    "cells_per_second": 9.9,
    "statuses": {"200": 5940, "429": 6060},
    "answered_ms": {"p50": 4000.0, "p90": 4900.0, "p99": 5100.0, "max": 5600.0},
    "refused_ms": {"p50": 1.5},
    "p99_ms_of_slices": [5000.0, 5100.0, None],
    "memory": [(5.0 * n, 500_000_000 + 1000 * n) for n in range(120)],
}


def test_a_figure_that_misses_its_goal_is_told():
    good = {"saturation": {"share": 0.95}, "overhead": {"p50_overhead_ms": 3.0}, "overload": PRESSED}
    assert tables.misses(good) == []
    leaking = [(5.0 * n, 500_000_000 + 1_000_000 * n) for n in range(120)]
    bad = {
        "saturation": {"share": 0.85},
        "overhead": {"p50_overhead_ms": 7.0},
        "overload": {**PRESSED, "statuses": {"200": 1, "429": 1, "500": 1, "0": 2}, "memory": leaking},
    }
    told = tables.misses(bad)
    assert len(told) == 4
    assert "ended with 0, 500" in told[2]
    assert "memory grew" in told[3]


def test_tables_are_put_into_a_page():
    machine = {"date": "today", "processor": "a processor", "cores": "2", "memory": "24 GiB", "python": "3.11"}
    told = tables.tables({"machine": machine, "cases": {"overload": PRESSED}})
    assert "5,940 of 200, 6,060 of 429" in told
    page = tables.page(f"before\n{tables.BEGIN}\nof yore\n{tables.END}\nafter\n", told)
    assert "of yore" not in page
    assert page.startswith("before\n")
    assert page.endswith(f"{tables.END}\nafter\n")
    assert tables.page(page, told) == page
