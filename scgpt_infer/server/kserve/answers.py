"""An inference response of the Open Inference Protocol: an `Answer` and what was asked for in, the bytes of a body out.

Tensors that are asked for as bytes lie behind the JSON, in the order of the outputs. JSON has null where a cell has no
number.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from scgpt_infer import schema
from scgpt_infer.server.asking import Answer
from scgpt_infer.server.desk import Here
from scgpt_infer.server.kserve.metadata import VERSION, outputs
from scgpt_infer.server.kserve.requests import Asked, Request
from scgpt_infer.server.refusals import BadRequest, Unprocessable

__all__ = ["task_of", "write"]

_OF_EMBED = ("embedding", "error")
_LENGTH = struct.Struct("<I")

Texts = list[str]
Made = NDArray[np.float32] | Texts | list[Texts]


def task_of(request: Request, here: Here) -> str:
    """What is asked of the cells: the task that is named, else the one that makes the outputs that are asked for.

    Raises
    ------
    BadRequest
        The model has no output of a name that is asked for, or the task that is named does not make it.
    Unprocessable
        The model cannot do the task that is named.
    """
    all_of = [spec.name for spec in outputs(here)]
    if not all_of:
        can = ", ".join(here.abilities)
        raise Unprocessable(f"Model {here.name!r} makes no vectors of cells; it can {can}, under /v1.")
    named = request.parameters.task
    if named is not None and named not in here.abilities:
        raise Unprocessable(f"Model {here.name!r} cannot {named}; it can {', '.join(here.abilities)}.")
    wanted = [asked.name for asked in request.asked]
    for name in wanted:
        if name not in all_of:
            raise BadRequest(f"Model {here.name!r} has no output {name[:80]!r}; it has {', '.join(all_of)}.")
        if named == "embed" and name not in _OF_EMBED:
            raise BadRequest(f"The output {name!r} is of the task annotate; embed was named.")
    if len({*wanted}) != len(wanted):
        raise BadRequest("An output is asked for twice; ask for each once.")
    if named is not None:
        return named
    return "annotate" if {*(wanted or all_of)} - {*_OF_EMBED} else "embed"


def write(request: Request, model: str, answer: Answer) -> tuple[bytes, int | None]:
    """The body of an answer.

    Parameters
    ----------
    request
        What was asked for.
    model
        Name of the model.
    answer
        What it says.

    Returns
    -------
    body
        JSON, and tensors behind it.
    json_bytes
        Bytes of the JSON, for the header Inference-Header-Content-Length. None: there is nothing behind it.
    """
    made = _makers(answer)
    told, tail = [], []
    for asked in request.asked or map(Asked, made):
        binary = request.parameters.binary_data_output if asked.binary is None else asked.binary
        output, data = _tensor(asked.name, made[asked.name](), binary)
        told.append(output)
        tail.append(data)
    head: dict[str, Any] = {"model_name": model, "model_version": VERSION}
    if request.id is not None:
        head["id"] = request.id
    head["parameters"] = {"vector_id": answer.run["vector_id"]}
    head["outputs"] = told
    text = msgspec.json.encode(head)
    behind = any("parameters" in output for output in told)
    return b"".join([text, *tail]), len(text) if behind else None


def _makers(answer: Answer) -> Mapping[str, Callable[[], Made]]:
    """How each output is made, by its name; those that nobody asks for are not."""
    part = answer.part
    words = {column.name: column.words for column in answer.columns}
    makers: dict[str, Callable[[], Made]] = {"embedding": lambda: part.vectors, "error": lambda: list(part.reasons)}
    if "label" in words:
        ranks = [name.removeprefix("label_") for name in words if name.startswith("label_")]
        makers |= {
            "label": lambda: _texts(part.columns["label"], words["label"]),
            "confidence": lambda: np.asarray(part.columns["confidence"], np.float32),
            "candidates": lambda: _rows([_texts(part.columns[f"label_{k}"], words[f"label_{k}"]) for k in ranks]),
            "candidate_confidences": lambda: np.stack(
                [np.asarray(part.columns[f"confidence_{k}"], np.float32) for k in ranks], axis=1
            ),
        }
    return makers


def _texts(places: NDArray[Any], words: Sequence[str]) -> Texts:
    """The word of each place; -1 is none."""
    among = [*words, ""]
    return [among[place] for place in places.tolist()]


def _rows(columns: list[Texts]) -> list[Texts]:
    return [list(row) for row in zip(*columns, strict=True)]


def _tensor(name: str, made: Made, binary: bool) -> tuple[dict[str, Any], bytes]:
    """An output as the JSON tells it, and its bytes behind the JSON."""
    data: bytes | list[str] | msgspec.Raw
    if isinstance(made, np.ndarray):
        output = {"name": name, "datatype": "FP32", "shape": list(made.shape)}
        data = made.astype("<f4", copy=False).tobytes() if binary else _numbers(made)
    else:
        output = {"name": name, "datatype": "BYTES", "shape": _shape(made)}
        texts = [text for row in made for text in ([row] if isinstance(row, str) else row)]
        data = b"".join(map(_prefixed, texts)) if binary else texts
    if isinstance(data, bytes):
        return {**output, "parameters": {"binary_data_size": len(data)}}, data
    return {**output, "data": data}, b""


def _numbers(made: NDArray[np.float32]) -> msgspec.Raw:
    """Numbers as a list, in the digits that every document of ours has: the fewest that bring them back."""
    return msgspec.Raw(schema.lists(made.reshape(1, -1))[0].encode())


def _shape(texts: Texts | list[Texts]) -> list[int]:
    return [len(texts), len(texts[0])] if isinstance(texts[0], list) else [len(texts)]


def _prefixed(text: str) -> bytes:
    """Text as an element of a BYTES tensor."""
    data = text.encode()
    return _LENGTH.pack(len(data)) + data
