"""Bodies of inference requests: what is read, and what a body that is none is answered."""

import json
from typing import Any

import pytest

from scgpt_infer.server.kserve.requests import Asked, read
from scgpt_infer.server.refusals import BadRequest, Unprocessable


def _body(**members: Any) -> bytes:
    return json.dumps({"inputs": [], **members}).encode()


def _input(name: str, shape: list[int], size: int | None = None, **members: Any) -> dict[str, Any]:
    sized = {} if size is None else {"parameters": {"binary_data_size": size}}
    return {"name": name, "shape": shape, "datatype": "UINT8", **sized, **members}


def test_bytes_lie_behind_the_json_in_the_order_of_the_inputs() -> None:
    head = _body(inputs=[_input("b", [2], 2), _input("in JSON", [1], data=[7]), _input("a", [3], 3)])
    request = read(head + b"bbaaa", str(len(head)))
    assert {name: (bytes(tensor.data), tensor.binary) for name, tensor in request.tensors.items()} == {
        "b": (b"bb", True),
        "in JSON": (b"[7]", False),
        "a": (b"aaa", True),
    }


def test_an_empty_tensor_may_say_null_beside_its_size() -> None:
    """KServe's client writes ``"data": null`` where it has no bytes to send."""
    head = _body(inputs=[_input("b", [0], 0, data=None)])
    assert bytes(read(head, str(len(head))).tensors["b"].data) == b""


def test_what_is_asked_for() -> None:
    outputs = [{"name": "x"}, {"name": "y", "parameters": {"binary_data": False}}]
    parameters = {"binary_data_output": True, "timeout": 1500, "task": "annotate", "top": 2, "unknown_below": 0.25}
    request = read(_body(id="42", model_name="m", outputs=outputs, parameters=parameters), None)
    assert request.asked == (Asked("x", None), Asked("y", False))
    assert request.id == "42"
    told = request.parameters
    assert (told.binary_data_output, told.timeout, told.task) == (True, 1500, "annotate")
    assert (told.top, told.unknown_below) == (2, 0.25)


def test_parameters_that_clients_of_triton_send_change_nothing() -> None:
    reserved = {"priority": 3, "sequence_id": 7, "sequence_start": True, "sequence_end": True}
    assert read(_body(parameters=reserved), None).parameters.task is None


@pytest.mark.parametrize(
    ("body", "length", "told"),
    [
        (b"", None, "Input data was truncated"),
        (b"{}", None, "`inputs`"),
        (b"[]", None, "Expected `object`"),
        (b'{"inputs": [', None, "truncated"),
        (b"\xff\xfe", None, "invalid character"),
        (b'{"inputs": [{"name": "\xff", "shape": [], "datatype": "FP32"}]}', None, "utf-8"),
        (_body(inputs={}), None, r"`\$\.inputs`"),
        (_body(inputs=[_input("a", [-1])]), None, r"`\$\.inputs\[0\]\.shape\[0\]`"),
        (_body(inputs=[_input("a", [2**63])]), None, r"`\$\.inputs\[0\]\.shape\[0\]`"),
        (_body(inputs=[{"name": "a", "shape": [1]}]), None, "`datatype`"),
        (_body(inputs=[_input("a", [1], data=[1]), _input("a", [1], data=[1])]), None, "two inputs of the name 'a'"),
        (_body(inputs=[_input("a", [1], parameters={"shared_memory_region": "r"})]), None, "`shared_memory_region`"),
        (_body(outputs=[{"name": "x", "parameters": {"classification": 3}}]), None, "`classification`"),
        (_body(parameters={"tops": 3}), None, "`tops`"),
        (_body(parameters={"top": 0}), None, r"`\$\.parameters\.top`"),
        (_body(parameters={"timeout": -1}), None, r"`\$\.parameters\.timeout`"),
        (_body(parameters={"task": "impute"}), None, "'impute'"),
        (_body(id=7), None, r"`\$\.id`"),
        (_body(), "12x", "'12x'"),
        (_body(), "-1", "'-1'"),
        (_body(), "²", "'²'"),
        (_body(), "1000", "the body has 14 bytes"),
        (_body() + b"abc", "14", "add up to 0; 3 bytes lie behind"),
        (_body(inputs=[_input("a", [1], 1)]), None, "add up to 1; 0 bytes lie behind"),
    ],
)
def test_no_inference_request(body: bytes, length: str | None, told: str) -> None:
    with pytest.raises(BadRequest, match=told):
        read(body, length)


@pytest.mark.parametrize(
    ("text", "twice"),
    [
        (_body(id="1")[:-1] + b', "id": "2"}', "id"),
        (_body(inputs=[_input("a", [2], data=[1, 2])]).replace(b'"shape"', b'"data": [3, 4], "shape"'), "data"),
        (_body(parameters={"top": 1}).replace(b'"top"', b'"top": 2, "top"'), "top"),
        (_body(unknown={"a": 1}).replace(b'"a"', b'"a": 2, "a"'), "a"),
    ],
)
def test_a_member_is_told_once(text: bytes, twice: str) -> None:
    for body, length in ((text, None), (b" " + text, str(len(text) + 1))):
        with pytest.raises(Unprocessable, match=f"'{twice}' twice in an object"):
            read(body, length)


def test_only_the_data_of_inputs_may_be_long() -> None:
    read(_body(inputs=[_input("a", [200_000], data=[1] * 200_000)]), None)
    for long in (_body(more=[1] * 200_000), _body(inputs=[_input("a", [1] * 200_000, data=[1])])):
        with pytest.raises(BadRequest, match="beside the data of its inputs"):
            read(long, None)


def test_a_tensor_is_given_once() -> None:
    head = _body(inputs=[_input("a", [1], 1, data=[1])])
    with pytest.raises(BadRequest, match="both, data and binary_data_size"):
        read(head + b"x", str(len(head)))


def test_a_number_without_end_is_refused_quickly() -> None:
    """Python would take minutes to make an integer of so many digits."""
    with pytest.raises(BadRequest):
        read(b'{"inputs": [{"name": "a", "datatype": "FP32", "shape": [' + b"9" * 10**6 + b"]}]}", None)
    with pytest.raises(BadRequest):
        read(b"[" * 10**6, None)
