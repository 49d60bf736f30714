"""An inference request of the Open Inference Protocol: the bytes of a body in, a `Request` out.

Tensors may lie in the JSON or, as their bytes, behind it in the order of the inputs (binary tensor extension). What the
tensors mean is for `scgpt_infer.server.kserve.inputs`.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from scgpt_infer.server.bodies.body import MOST_CANDIDATES
from scgpt_infer.server.bodies.twice import check_members
from scgpt_infer.server.refusals import BadRequest

__all__ = ["Asked", "Parameters", "Request", "Tensor", "read"]

Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""A length, as far as one fits into the memory of a machine."""


_MOST_AROUND = 2**18
"""Bytes of the JSON that are not data. A request has some 500; each may become a hundred in memory."""


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may be said of a whole request.

    Attributes
    ----------
    binary_data_output
        Whether outputs that say nothing of it come as bytes.
    timeout
        Microseconds after which nobody wants the answer; 0: none was named
        (https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_schedule_policy.md).
    task
        ``embed`` or ``annotate``. None: as the outputs that are asked for need it.
    top
        Candidates that ``annotate`` tells of each cell.
    unknown_below
        ``annotate`` calls a cell unknown whose best label has less confidence.
    priority, sequence_id, sequence_start, sequence_end
        Reserved by the protocol's clients. They change nothing: turns are shared out evenly, and no model has a state.
    """

    binary_data_output: bool = False
    timeout: Size = 0
    task: Literal["annotate", "embed"] | None = None
    top: Annotated[int, msgspec.Meta(ge=1, le=MOST_CANDIDATES)] | None = None
    unknown_below: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    priority: Size = 0
    sequence_id: int | str = 0
    sequence_start: bool = False
    sequence_end: bool = False


class _InputParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    binary_data_size: Size | None = None


class _OutputParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    binary_data: bool | None = None


class _Input(msgspec.Struct, frozen=True):
    name: str
    shape: list[Size]
    datatype: str
    parameters: _InputParameters = _InputParameters()
    data: msgspec.Raw = msgspec.Raw()


class _Output(msgspec.Struct, frozen=True):
    name: str
    parameters: _OutputParameters = _OutputParameters()


class _Body(msgspec.Struct, frozen=True):
    inputs: list[_Input]
    outputs: list[_Output] = []
    parameters: Parameters = Parameters()
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input tensor as it came.

    Attributes
    ----------
    name, datatype, shape
        As the request tells them.
    data
        Its elements: JSON text, or where `binary` is true their bytes, little-endian and without gaps.
    binary
        Which of the two.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: memoryview
    binary: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """An output that is asked for; ``binary`` is None where the request's own setting decides."""

    name: str
    binary: bool | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """An inference request.

    Attributes
    ----------
    tensors
        Inputs by name.
    asked
        Outputs that are asked for; empty: all.
    parameters
        Of the request.
    id
        What the answer repeats.
    """

    tensors: dict[str, Tensor]
    asked: tuple[Asked, ...]
    parameters: Parameters
    id: str | None


_decoder = msgspec.json.Decoder(_Body)


def read(body: bytes, json_bytes: str | None) -> Request:
    """Take a body apart.

    Parameters
    ----------
    body
        Inflated.
    json_bytes
        The header Inference-Header-Content-Length: bytes of the JSON at the body's beginning. None: all of it.

    Raises
    ------
    BadRequest
        It is no inference request.
    Unprocessable
        It tells a member twice.
    """
    head, rest = _parted(memoryview(body), json_bytes)
    try:
        told = _decoder.decode(head)
        _check_members(head, [found.data for found in told.inputs if len(memoryview(found.data))])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"This is no inference request of the Open Inference Protocol: {error}") from error
    return Request(
        _tensors(told.inputs, rest),
        tuple(Asked(output.name, output.parameters.binary_data) for output in told.outputs),
        told.parameters,
        told.id,
    )


def _check_members(head: memoryview, data: list[msgspec.Raw]) -> None:
    """Make sure that each member of the JSON is told once; the data of tensors have none."""
    around = len(head) - sum(len(memoryview(one)) for one in data)
    if around > _MOST_AROUND:
        raise BadRequest(
            f"The JSON has {around:,} bytes beside the data of its inputs; expected names, shapes and parameters, "
            f"of at most {_MOST_AROUND:,} bytes."
        )
    check_members(head, data)


def _parted(body: memoryview, json_bytes: str | None) -> tuple[memoryview, memoryview]:
    """The JSON, and the bytes of tensors behind it."""
    if json_bytes is None:
        return body, body[len(body) :]
    if not (json_bytes.isascii() and json_bytes.isdigit() and len(json_bytes) < 20 and int(json_bytes) <= len(body)):
        raise BadRequest(
            f"Inference-Header-Content-Length is {json_bytes[:40]!r}; the body has {len(body):,} bytes. It gives the "
            "number of bytes of the JSON at the beginning of the body, before any Content-Encoding."
        )
    return body[: int(json_bytes)], body[int(json_bytes) :]


def _tensors(inputs: list[_Input], rest: memoryview) -> dict[str, Tensor]:
    """Each input with its data."""
    tensors: dict[str, Tensor] = {}
    sizes = [found.parameters.binary_data_size for found in inputs]
    if sum(size or 0 for size in sizes) != len(rest):
        raise BadRequest(
            f"The binary_data_size of the inputs add up to {sum(size or 0 for size in sizes):,}; {len(rest):,} bytes "
            "lie behind the JSON. The header Inference-Header-Content-Length says where the JSON ends."
        )
    start = 0
    for found, size in zip(inputs, sizes, strict=True):
        if found.name in tensors:
            raise BadRequest(f"There are two inputs of the name {found.name!r}; a tensor is given once.")
        data: Any = found.data
        if size is not None:
            if len(memoryview(data)) and bytes(data) != b"null":
                raise BadRequest(f"The input {found.name!r} has both, data and binary_data_size; give one of them.")
            data, start = rest[start : start + size], start + size
        tensors[found.name] = Tensor(
            found.name, found.datatype, tuple(found.shape), memoryview(data), binary=size is not None
        )
    return tensors
