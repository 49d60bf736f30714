"""Answers as tensors: what is told of which output, in JSON and in bytes, and which task an asker means."""

import json
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scgpt_infer.server.asking import Ask, Cells
from scgpt_infer.server.kserve import answers
from scgpt_infer.server.kserve.requests import Request, read
from scgpt_infer.server.refusals import BadRequest, Refusal, Unprocessable
from tests.scgpt_infer.server.fake_desk import answer, demo_here

HERE = demo_here()
ONLY_EMBEDS = replace(HERE, abilities=("embed",), labels=())
BAD = 1  # the cell without a gene


def _request(*outputs: str | dict[str, Any], **parameters: Any) -> Request:
    asked = [{"name": output} if isinstance(output, str) else output for output in outputs]
    return read(json.dumps({"inputs": [], "outputs": asked, "parameters": parameters}).encode(), None)


def _answer(request: Request) -> tuple[dict[str, Any], bytes, Any]:
    cells = Cells(np.array([0, 1, 1, 3]), np.array([5, 5, 6], np.int32), np.array([1, 2, 3], np.float32))
    options = {"top": request.parameters.top or 3, "unknown_below": 0.5}
    found = answer(HERE, Ask(answers.task_of(request, HERE), cells, options=options))
    body, json_bytes = answers.write(request, HERE.name, found)
    told = json.loads(body if json_bytes is None else body[:json_bytes])
    return told, b"" if json_bytes is None else body[json_bytes:], found.part


def test_all_outputs_are_told_where_none_is_asked_for() -> None:
    told, _, part = _answer(_request())
    shapes = {output["name"]: (output["datatype"], output["shape"]) for output in told["outputs"]}
    assert shapes == {
        "embedding": ("FP32", [3, HERE.manifest.dim]),
        "error": ("BYTES", [3]),
        "label": ("BYTES", [3]),
        "confidence": ("FP32", [3]),
        "candidates": ("BYTES", [3, 3]),
        "candidate_confidences": ("FP32", [3, 3]),
    }
    assert told["model_name"] == "demo"
    assert told["parameters"] == {"vector_id": HERE.vector_id}
    data = {output["name"]: output["data"] for output in told["outputs"]}
    assert data["label"][BAD] == ""
    assert data["error"] == list(part.reasons)
    assert data["error"][BAD]


def test_numbers_in_json_bring_float32_back_and_are_null_for_a_bad_cell() -> None:
    told, _, part = _answer(_request("embedding"))
    (output,) = told["outputs"]
    dim = HERE.manifest.dim
    assert output["data"][BAD * dim : (BAD + 1) * dim] == [None] * dim
    np.testing.assert_array_equal(np.array(output["data"], np.float32).reshape(3, dim), part.vectors)


def test_bytes_lie_in_the_order_of_the_outputs_that_are_asked_for() -> None:
    request = _request("label", {"name": "confidence", "parameters": {"binary_data": False}}, "embedding",
                       binary_data_output=True, top=2)  # fmt: skip
    told, behind, part = _answer(request)
    label, confidence, embedding = told["outputs"]
    assert "data" not in label
    assert confidence["data"][BAD] is None
    size = label["parameters"]["binary_data_size"]
    words, rest = [], behind[:size]
    while rest:
        (length,) = struct.unpack_from("<I", rest)
        words.append(rest[4 : 4 + length].decode())
        rest = rest[4 + length :]
    assert words[BAD] == ""
    assert len(words) == 3
    assert embedding["parameters"]["binary_data_size"] == len(behind) - size
    np.testing.assert_array_equal(np.frombuffer(behind[size:], "<f4").reshape(3, -1), part.vectors)


def test_an_output_may_be_bytes_though_the_request_wants_none() -> None:
    told, behind, _ = _answer(_request({"name": "confidence", "parameters": {"binary_data": True}}))
    assert told["outputs"][0]["parameters"] == {"binary_data_size": 12}
    assert len(behind) == 12


@pytest.mark.parametrize(
    ("request_", "task"),
    [
        (_request(), "annotate"),
        (_request("embedding"), "embed"),
        (_request("error", "embedding"), "embed"),
        (_request("embedding", "label"), "annotate"),
        (_request("embedding", task="annotate"), "annotate"),
        (_request(task="embed"), "embed"),
    ],
)
def test_the_outputs_tell_the_task(request_: Request, task: str) -> None:
    assert answers.task_of(request_, HERE) == task


def test_a_model_without_types_embeds() -> None:
    assert answers.task_of(_request(), ONLY_EMBEDS) == "embed"


@pytest.mark.parametrize(
    ("request_", "refusal", "told"),
    [
        (_request("label"), BadRequest, "no output 'label'; it has embedding, error"),
        (_request(task="annotate"), Unprocessable, "cannot annotate; it can embed"),
    ],
)
def test_what_a_model_cannot(request_: Request, refusal: type[Refusal], told: str) -> None:
    with pytest.raises(refusal, match=told):
        answers.task_of(request_, ONLY_EMBEDS)


def test_a_model_without_vectors_is_asked_elsewhere() -> None:
    perturbs = replace(HERE, abilities=("perturb",))
    with pytest.raises(Unprocessable, match="makes no vectors of cells; it can perturb, under /v1"):
        answers.task_of(_request(), perturbs)


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (_request("embedding", "embedding"), "asked for twice"),
        (_request("label", task="embed"), "'label' is of the task annotate"),
        (_request("logits"), "no output 'logits'"),
    ],
)
def test_outputs_that_contradict(request_: Request, told: str) -> None:
    with pytest.raises(BadRequest, match=told):
        answers.task_of(request_, HERE)


def test_an_id_is_repeated() -> None:
    request = read(b'{"inputs": [], "id": "42", "outputs": [{"name": "error"}]}', None)
    assert _answer(request)[0]["id"] == "42"
    assert "id" not in _answer(_request("error"))[0]
