"""The Open Inference Protocol, asked by NVIDIA's public client and by plain HTTP."""

import asyncio
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from scgpt_infer.server import metrics
from scgpt_infer.server.asking import Answer, Ask
from scgpt_infer.server.desk import Here, Status
from scgpt_infer.server.front.door import Door
from scgpt_infer.server.front.kserve import JSON_BYTES, routes
from scgpt_infer.server.kserve.metadata import INPUTS, outputs
from scgpt_infer.server.kserve.requests import Parameters
from scgpt_infer.server.refusals import Expired, NotReady, QueueFull
from scgpt_infer.server.settings import ModelAsked, Settings
from tests.scgpt_infer.server.fake_desk import FakeDesk, demo_here
from tests.scgpt_infer.server.served import served

HERE = demo_here()
NAMES = [name for name in HERE.vocabulary.tokens if not name.startswith("<")]
GENES = [*NAMES[:3], "no gene", *NAMES[2:4]]
VALUES = [1, 2, 3, 4, 5.5, 6]
INDPTR = [0, 3, 4, 6]  # the second cell has no gene that is known
OPEN = Settings(models=(ModelAsked("demo", "demo"),), model_control=True, max_cells=100)


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[FakeDesk, str]]:
    desk = FakeDesk()
    with served(routes(Door(desk, OPEN))) as url:
        yield desk, url


@pytest.fixture
def desk(running: tuple[FakeDesk, str]) -> FakeDesk:
    vars(running[0]).update(vars(FakeDesk()))
    return running[0]


@pytest.fixture
def url(running: tuple[FakeDesk, str], desk: FakeDesk) -> str:
    return running[1]


@pytest.fixture
def client(url: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(url) as client:
        yield client


def _inputs(binary: bool = True) -> list[triton.InferInput]:
    given = {
        "genes": np.array(GENES, np.object_),
        "values": np.array(VALUES, np.float32),
        "indptr": np.array(INDPTR, np.int64),
    }
    types = {"genes": "BYTES", "values": "FP32", "indptr": "INT64"}
    return [
        triton.InferInput(name, list(data.shape), types[name]).set_data_from_numpy(data, binary_data=binary)
        for name, data in given.items()
    ]


def _embedding(client: triton.InferenceServerClient, **how: Any) -> np.ndarray[Any, Any]:
    binary = how.pop("binary", True)
    outputs = [triton.InferRequestedOutput("embedding", binary_data=how.pop("binary_output", True))]
    found: np.ndarray[Any, Any] = client.infer("demo", _inputs(binary), outputs=outputs, **how).as_numpy("embedding")
    return found


def test_a_model_that_is_started_again_is_not_ready(
    client: triton.InferenceServerClient, desk: FakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "statuses", lambda: [Status("demo", 1, "loading")])
    assert not client.is_model_ready("demo")


def test_health_and_metadata(client: triton.InferenceServerClient, desk: FakeDesk) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("demo")
    assert client.is_model_ready("demo", "1")
    assert not client.is_model_ready("another")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    told = client.get_model_metadata("demo", "1")
    assert told["inputs"] == [
        {"name": "genes", "datatype": "BYTES", "shape": [-1]},
        {"name": "values", "datatype": "FP32", "shape": [-1]},
        {"name": "indptr", "datatype": "INT64", "shape": [-1]},
    ]
    assert {"name": "embedding", "datatype": "FP32", "shape": [-1, HERE.manifest.dim]} in told["outputs"]
    assert client.get_model_config("demo")["backend"] == "scgpt-infer"
    desk.ready = False
    assert client.is_server_live()
    assert not client.is_server_ready()


def test_bytes_and_json_give_the_same_vectors(client: triton.InferenceServerClient) -> None:
    vectors = _embedding(client)
    assert vectors.shape == (3, HERE.manifest.dim)
    assert np.isnan(vectors[1]).all()
    np.testing.assert_allclose(np.linalg.norm(vectors[[0, 2]], axis=1), 1, rtol=1e-6)
    for binary in (True, False):
        for binary_output in (True, False):
            told = _embedding(client, binary=binary, binary_output=binary_output)
            np.testing.assert_array_equal(told, vectors)


def test_all_outputs_agree_with_their_metadata(client: triton.InferenceServerClient) -> None:
    result = client.infer("demo", _inputs(), request_id="7", parameters={"top": 2, "unknown_below": 0.0})
    assert result.get_response()["id"] == "7"
    assert result.get_response()["parameters"] == {"vector_id": HERE.vector_id}
    for output in client.get_model_metadata("demo")["outputs"]:
        found = result.as_numpy(output["name"])
        assert all(told in (-1, size) for told, size in zip(output["shape"], found.shape, strict=True))
    labels, candidates = result.as_numpy("label"), result.as_numpy("candidates")
    assert candidates.shape == (3, 2)
    assert [labels[0], labels[2]] == [candidates[0, 0], candidates[2, 0]]
    assert labels[0].decode() in HERE.labels
    assert labels[1] == b""
    assert [bool(reason) for reason in result.as_numpy("error")] == [False, True, False]
    assert np.isnan(result.as_numpy("confidence")).tolist() == [False, True, False]


@pytest.mark.parametrize("there", [None, "gzip", "deflate"])
@pytest.mark.parametrize("back", [None, "gzip", "deflate"])
def test_compression_both_ways(client: triton.InferenceServerClient, there: str | None, back: str | None) -> None:
    how = {"request_compression_algorithm": there, "response_compression_algorithm": back}
    np.testing.assert_array_equal(_embedding(client, **how), _embedding(client))


def test_an_answer_is_compressed_for_who_names_one_coding(url: str) -> None:
    """HTTP libraries offer several by themselves; vectors hardly shrink."""
    body = json.dumps({"inputs": [tensor._get_tensor() for tensor in _inputs(binary=False)]}).encode()
    address = f"http://{url}/v2/models/demo/infer"
    plain = httpx.post(address, content=body, headers={"Accept-Encoding": "gzip, deflate, br"})
    assert "Content-Encoding" not in plain.headers
    for coding, inflate in (("gzip", gzip.decompress), ("deflate", zlib.decompress)):
        with httpx.stream("POST", address, content=body, headers={"Accept-Encoding": coding}) as answer:
            assert answer.headers["Content-Encoding"] == coding
            assert inflate(b"".join(answer.iter_raw())) == plain.content


def test_headers_of_an_answer(url: str) -> None:
    body, json_bytes = triton.InferenceServerClient.generate_request_body(_inputs())
    answer = httpx.post(f"http://{url}/v2/models/demo/infer", content=body, headers={JSON_BYTES: str(json_bytes)})
    assert answer.status_code == 200
    assert answer.headers["X-Vector-Id"] == HERE.vector_id
    assert answer.headers["Content-Type"] == "application/octet-stream"
    timing = [part.split(";")[0] for part in answer.headers["Server-Timing"].split(", ")]
    assert sorted(timing) == sorted(metrics.STAGES)
    head = json.loads(answer.content[: int(answer.headers[JSON_BYTES])])
    assert [output["name"] for output in head["outputs"]][:2] == ["embedding", "error"]


def test_what_reaches_the_model(client: triton.InferenceServerClient, desk: FakeDesk) -> None:
    _embedding(client, timeout=5_000_000, headers={"X-Request-Id": "from-afar"})
    (ask,) = desk.asked
    assert (ask.task, ask.request_id, ask.client) == ("embed", "from-afar", "127.0.0.1")
    assert ask.within is not None
    assert 4 < ask.within <= 5
    client.infer("demo", _inputs(), parameters={"task": "annotate", "top": 1}, headers={"X-Request-Timeout-Ms": "900"})
    assert desk.asked[1].options == {"top": 1}
    assert desk.asked[1].within is not None
    assert desk.asked[1].within <= 0.9
    client.infer("demo", _inputs(), timeout=0)
    assert desk.asked[2].within is None


def test_a_time_that_has_passed_asks_no_model(client: triton.InferenceServerClient, desk: FakeDesk) -> None:
    for how in ({"timeout": 1}, {"headers": {"X-Request-Timeout-Ms": "0"}}):
        with pytest.raises(InferenceServerException) as caught:
            _embedding(client, **how)
        assert caught.value.status() == "504"
    assert not desk.asked


@pytest.mark.parametrize(
    ("error", "status"), [(QueueFull("full", 1.2), "429"), (NotReady("loading"), "503"), (Expired("late"), "504")]
)
def test_refusals_reach_the_client(
    client: triton.InferenceServerClient, desk: FakeDesk, error: Exception, status: str
) -> None:
    desk.refuses = error
    with pytest.raises(InferenceServerException) as caught:
        _embedding(client)
    assert (caught.value.status(), caught.value.message()) == (status, str(error))


def _model(client: triton.InferenceServerClient) -> None:
    client.get_model_metadata("another")


def _version(client: triton.InferenceServerClient) -> None:
    client.infer("demo", _inputs(), model_version="2")


def _output(client: triton.InferenceServerClient) -> None:
    client.infer("demo", _inputs(), outputs=[triton.InferRequestedOutput("logits")])


def _classes(client: triton.InferenceServerClient) -> None:
    client.infer("demo", _inputs(), outputs=[triton.InferRequestedOutput("confidence", class_count=3)])


def _shared(client: triton.InferenceServerClient) -> None:
    inputs = _inputs()
    inputs[1].set_shared_memory("region", 24)
    client.infer("demo", inputs)


def _missing(client: triton.InferenceServerClient) -> None:
    client.infer("demo", _inputs()[:2])


@pytest.mark.parametrize(
    ("ask", "status", "told"),
    [
        (_model, "404", "no model 'another'"),
        (_version, "404", "no version '2'; it has 1"),
        (_output, "400", "no output 'logits'; it has embedding, error"),
        (_classes, "400", "`classification`"),
        (_shared, "400", "`shared_memory_region`"),
        (_missing, "400", "'indptr' is missing"),
    ],
)
def test_what_cannot_be_asked(
    client: triton.InferenceServerClient, ask: Callable[[Any], None], status: str, told: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        ask(client)
    assert caught.value.status() == status
    assert told in caught.value.message()


def test_models_are_loaded_and_unloaded(client: triton.InferenceServerClient, desk: FakeDesk) -> None:
    client.load_model("second")
    assert {found["name"]: found["state"] for found in client.get_model_repository_index()} == {
        "demo": "READY",
        "second": "READY",
    }
    client.load_model("second")
    assert desk.here("second").generation == 2
    client.unload_model("second")
    assert not client.is_model_ready("second")
    with pytest.raises(InferenceServerException, match="no model 'second'"):
        client.unload_model("second")
    with pytest.raises(InferenceServerException, match="loaded as its bundle is"):
        client.load_model("second", config="{}")


def test_nothing_is_loaded_where_the_operator_does_not_allow_it(desk: FakeDesk) -> None:
    with (
        served(routes(Door(desk, replace(OPEN, model_control=False)))) as url,
        triton.InferenceServerClient(url) as client,
    ):
        for change in (client.load_model, client.unload_model):
            with pytest.raises(InferenceServerException) as caught:
                change("demo")
            assert caught.value.status() == "403"
        assert client.is_model_ready("demo")


def test_statistics_count_what_was_read_and_written(client: triton.InferenceServerClient) -> None:
    def written() -> int:
        (told,) = client.get_inference_statistics("demo")["model_stats"]
        return int(told["inference_stats"]["compute_output"]["count"])

    before = written()
    _embedding(client)
    assert written() == before + 1
    assert [told["name"] for told in client.get_inference_statistics()["model_stats"]] == ["demo"]


class Reloading(FakeDesk):
    """Its model is loaded anew, with another vocabulary, while a client asks."""

    async def ask(self, here: Here, ask: Ask) -> Answer:
        self.models["demo"] = demo_here("demo", here.generation + 1)
        self.models["demo"] = replace(
            self.models["demo"], vocabulary=type(here.vocabulary)(tokens=here.vocabulary.tokens[::-1])
        )
        return await super().ask(here, ask)


def test_genes_are_those_of_the_model_that_is_asked() -> None:
    desk = Reloading()
    with served(routes(Door(desk, OPEN))) as url, triton.InferenceServerClient(url) as client:
        for _ in range(2):
            _embedding(client)
    first, second = (ask.cells.tokens.tolist() for ask in desk.asked)
    n_tokens = len(HERE.vocabulary)
    assert second == [n_tokens - 1 - token if token >= 0 else -1 for token in first]


def test_a_client_that_leaves_frees_its_place(desk: FakeDesk, url: str) -> None:
    body, json_bytes = triton.InferenceServerClient.generate_request_body(_inputs())
    desk.gate = asyncio.Event()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"http://{url}/v2/models/demo/infer", content=body, headers={JSON_BYTES: str(json_bytes)}, timeout=0.3
        )
    with httpx.Client() as waiting:
        while not desk.cancelled:
            waiting.get(f"http://{url}/v2/health/live")
    assert len(desk.asked) == 1


def test_the_example_of_the_docs_runs(url: str) -> None:
    page = (Path(__file__).parents[4] / "docs/serving/kserve.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace("127.0.0.1:8080", url), names)
    names["client"].close()
    assert names["vectors"].shape == (2, HERE.manifest.dim)
    assert np.isfinite(names["vectors"]).all()


def test_the_docs_name_all_tensors_and_parameters() -> None:
    page = (Path(__file__).parents[4] / "docs/serving/kserve.md").read_text(encoding="utf-8")
    for spec in (*INPUTS, *outputs(HERE)):
        assert f"| `{spec.name}` | {spec.datatype} |" in page
    for name in Parameters.__struct_fields__:
        assert f"`{name}`" in page
