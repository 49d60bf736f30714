"""Single cells over HTTP: any form in, any form out, the same vectors, and what the headers tell."""

import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from jsonschema import Draft202012Validator

from scgpt_infer import schema
from scgpt_infer.server.front.door import Door
from scgpt_infer.server.front.native import routes
from scgpt_infer.server.refusals import QueueFull
from scgpt_infer.server.settings import ModelAsked, Settings
from tests.scgpt_infer.server.fake_desk import FakeDesk, demo_here
from tests.scgpt_infer.server.served import served

NAMES = [name for name in demo_here().vocabulary.tokens if not name.startswith("<")]
CELLS = [
    {"cell": "a", "genes": {NAMES[0]: 1, NAMES[1]: 2.5}},
    {"cell": "b", "genes": ["no gene"], "values": [1]},
    {"cell": "c", "genes": [NAMES[3], NAMES[2]], "values": [3, 0.1]},
]
ARROW, NPY = "application/vnd.apache.arrow.stream", "application/x-npy"


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[FakeDesk, httpx.Client]]:
    desk = FakeDesk()
    door = Door(desk, Settings(models=(ModelAsked("demo", "demo"),), max_cells=100, max_genes=50))
    with served(routes(door)) as url, httpx.Client(base_url=f"http://{url}") as client:
        yield desk, client


@pytest.fixture
def desk(running: tuple[FakeDesk, httpx.Client]) -> FakeDesk:
    vars(running[0]).update(vars(FakeDesk()))
    return running[0]


@pytest.fixture
def client(running: tuple[FakeDesk, httpx.Client], desk: FakeDesk) -> httpx.Client:
    return running[1]


def arrow_of(cells: list[dict[str, Any]]) -> bytes:
    genes = [[*cell["genes"]] for cell in cells]
    values = [cell.get("values") or [*cell["genes"].values()] for cell in cells]
    table = pa.table(
        {
            "cell": [cell["cell"] for cell in cells],
            "genes": pa.array(genes, pa.list_(pa.string())),
            "values": pa.array(values, pa.list_(pa.float32())),
        }
    )
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def vectors_of(response: httpx.Response) -> np.ndarray[Any, Any]:
    assert response.status_code == 200, response.text
    match response.headers["content-type"]:
        case "application/json":
            rows = [cell["embedding"] or [np.nan] * 64 for cell in response.json()["cells"]]
            return np.array(rows, np.float32)
        case form if form == NPY:
            return np.load(io.BytesIO(response.content), allow_pickle=False)
        case _:
            table = pa.ipc.open_stream(response.content).read_all()
            return np.array(table["embedding"].to_pylist(), np.float32)


@pytest.mark.parametrize("accept", ["application/json", NPY, ARROW])
def test_vectors_are_the_same_in_every_form(client: httpx.Client, desk: FakeDesk, accept: str) -> None:
    headers = {"Accept": accept, "X-Request-Id": "r-1"}
    told = client.post("/v1/embed", json={"cells": CELLS, "model": "demo"}, headers=headers)
    arrow = client.post("/v1/embed", content=arrow_of(CELLS), headers={**headers, "Content-Type": ARROW})
    single = client.post("/v1/embed", json={"cells": CELLS[:1]})
    vectors = vectors_of(told)
    assert vectors.shape == (3, 64)
    assert np.isnan(vectors[1]).all()
    np.testing.assert_allclose(np.linalg.norm(vectors[[0, 2]], axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(vectors_of(arrow), vectors)
    np.testing.assert_array_equal(vectors_of(single)[0], vectors[0])
    assert told.headers["x-bad-cells"] == "1"
    assert told.headers["x-vector-id"] == demo_here().vector_id
    stages = [part.split(";dur=") for part in told.headers["server-timing"].split(", ")]
    assert [stage for stage, _ in stages] == ["read", "queue", "tokenise", "infer", "write"]
    assert all(float(milliseconds) >= 0 for _, milliseconds in stages)
    assert desk.asked[0].request_id == "r-1"
    assert desk.asked[0].cells.names == ("a", "b", "c")


def test_the_document_keeps_to_the_schema(client: httpx.Client) -> None:
    check = Draft202012Validator(client.get("/v1/schema").json())
    for task, kind in (("embed", "embeddings"), ("annotate", "cell_types")):
        document = client.post(f"/v1/{task}", json={"cells": CELLS}).json()
        check.validate(document)
        assert document["kind"] == kind
        assert [cell["cell"] for cell in document["cells"]] == ["a", "b", "c"]
        assert document["cells"][1]["error"] == "none of its expressed genes is in the vocabulary"
        assert document["run"]["n_without_embedding"] == 1
    unnamed = client.post("/v1/embed", json={"cells": [{"genes": CELLS[0]["genes"]}] * 2}).json()
    assert [cell["cell"] for cell in unnamed["cells"]] == ["0", "1"]


def test_labels_come_with_as_many_candidates_as_wanted(client: httpx.Client, desk: FakeDesk) -> None:
    options = {"top": 2, "unknown_below": 0.25, "with_vectors": True}
    in_body = client.post("/v1/annotate", json={"cells": CELLS, **options})
    in_query = client.post("/v1/annotate", json={"cells": CELLS}, params={**options, "with_vectors": "true"})
    assert in_body.content == in_query.content
    assert desk.asked[1].options == {"top": 2, "unknown_below": 0.25}
    first = in_body.json()["cells"][0]
    assert len(first["candidates"]) == 2
    assert len(first["embedding"]) == 64
    assert "embedding" not in client.post("/v1/annotate", json={"cells": CELLS}).json()["cells"][0]
    table = pa.ipc.open_stream(
        client.post(
            "/v1/annotate?top=1", content=arrow_of(CELLS), headers={"Content-Type": ARROW, "Accept": ARROW}
        ).content
    ).read_all()
    assert table.column_names == ["cell", "label", "confidence", "label_1", "confidence_1", "error"]
    assert table["label_1"][0].as_py() == first["candidates"][0]["label"]
    assert json.loads(table.schema.metadata[b"scgpt_infer"])["vector_id"] == demo_here().vector_id


REFUSED = [
    ("/v1/embed", {}, b"{", 400, "bad_request"),
    ("/v1/embed", {"Content-Type": "text/csv"}, b"a,b", 415, "unsupported_media"),
    ("/v1/embed", {"Accept": "text/html"}, b"{}", 406, "not_acceptable"),
    ("/v1/annotate", {"Accept": NPY}, b"{}", 406, "not_acceptable"),
    ("/v1/embed?model=nobody", {}, json.dumps({"cells": CELLS}).encode(), 404, "not_found"),
    ("/v1/embed?top=3", {}, json.dumps({"cells": CELLS}).encode(), 422, "unprocessable"),
    ("/v1/annotate?top=0", {}, json.dumps({"cells": CELLS}).encode(), 422, "unprocessable"),
    ("/v1/annotate?top=101", {}, json.dumps({"cells": CELLS}).encode(), 422, "unprocessable"),
    *(
        (f"/v1/annotate?{query}", {}, json.dumps({"cells": CELLS}).encode(), 422, "unprocessable")
        for query in (
            "top=1&top=5",
            "top=1_0",
            "top=%203",
            "top=%D9%A3",
            "unknown_below=0_0",
            "model=",
            "model=demo&model=demo",
        )
    ),
    ("/v1/embed", {}, json.dumps({"cells": CELLS, "model": ""}).encode(), 422, "unprocessable"),
    ("/v1/annotate?unknown_below=2", {}, json.dumps({"cells": CELLS}).encode(), 422, "unprocessable"),
    ("/v1/annotate?with_vectors=1", {}, json.dumps({"cells": CELLS}).encode(), 422, "unprocessable"),
    ("/v1/embed", {}, json.dumps({"cells": CELLS * 40}).encode(), 413, "too_large"),
    ("/v1/embed", {"X-Request-Timeout-Ms": "0"}, json.dumps({"cells": CELLS}).encode(), 504, "expired"),
]


@pytest.mark.parametrize(("path", "headers", "body", "status", "code"), REFUSED)
def test_a_refusal_says_why_and_the_model_is_not_asked(
    client: httpx.Client, desk: FakeDesk, path: str, headers: dict[str, str], body: bytes, status: int, code: str
) -> None:
    response = client.post(path, content=body, headers=headers)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.json()["request_id"] == response.headers["x-request-id"]
    assert desk.asked == []


def test_a_full_queue_says_when_to_come_again(client: httpx.Client, desk: FakeDesk) -> None:
    desk.refuses = QueueFull("Too much waits.", 1.2)
    response = client.post("/v1/embed", json={"cells": CELLS})
    assert (response.status_code, response.headers["retry-after"]) == (429, "2")


def test_models_tell_what_they_can(client: httpx.Client) -> None:
    (told,) = client.get("/v1/models").json()["models"]
    assert client.get("/v1/models/demo").json() == told
    assert (told["name"], told["state"], told["dim"]) == ("demo", "ready", 64)
    assert {"embed", "annotate"} <= {*told["tasks"]}
    assert told["run"]["vector_id"] == told["vector_id"]
    assert client.get("/v1/models/other").status_code == 404


def test_the_schema_is_that_of_all_documents(client: httpx.Client) -> None:
    assert client.get("/v1/schema").json() == schema.schema()
