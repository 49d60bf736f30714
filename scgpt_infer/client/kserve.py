"""Cells as tensors of the Open Inference Protocol, as bytes, and answers from such: what travels without pyarrow.

In: rows of a matrix and a name for each of its columns. Out: a body; from a body, a `Part`. It knows no HTTP.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.client.errors import ProtocolError
from scgpt_infer.writers.sink import Column, Part
from scgpt_runtime.cells import CellBlock

__all__ = ["JSON_BYTES", "answer_of", "body_of"]

JSON_BYTES = "Inference-Header-Content-Length"
"""Header with the bytes of the JSON before the tensors."""

_LENGTH = struct.Struct("<I")
_EMBED = ("embedding", "error")
_ANNOTATE = (*_EMBED, "label", "confidence", "candidates", "candidate_confidences")

Tensors = Mapping[str, tuple[list[int], memoryview]]


def body_of(block: CellBlock, genes: NDArray[np.object_], task: str, options: Mapping[str, Any]) -> tuple[bytes, int]:
    """Cells as the tensors ``genes``, ``values`` and ``indptr``.

    Parameters
    ----------
    block
        The cells.
    genes
        (n_columns,) name of each column of the matrix.
    task
        ``embed`` or ``annotate``.
    options
        Of the task.

    Returns
    -------
    body
        JSON, and the tensors behind it.
    json_bytes
        How long the JSON is.
    """
    words = np.array([_LENGTH.pack(len(word)) + word for word in (str(gene).encode() for gene in genes)], object)
    tensors: list[tuple[str, str, int, bytes]] = [
        ("genes", "BYTES", len(block.indices), b"".join(words[block.indices].tolist())),
        ("values", "FP32", len(block.data), block.data.astype("<f4", copy=False).tobytes()),
        ("indptr", "INT64", len(block.indptr), block.indptr.astype("<i8", copy=False).tobytes()),
    ]
    inputs = [
        {"name": name, "shape": [count], "datatype": kind, "parameters": {"binary_data_size": len(data)}}
        for name, kind, count, data in tensors
    ]
    outputs = [{"name": name} for name in (_ANNOTATE if task == "annotate" else _EMBED)]
    parameters = {"task": task, "binary_data_output": True, **options}
    head = json.dumps({"inputs": inputs, "outputs": outputs, "parameters": parameters}).encode()
    return b"".join([head, *(data for *_, data in tensors)]), len(head)


def answer_of(body: bytes, json_bytes: str | None, first_row: int, columns: Sequence[Column]) -> Part:
    """The rows of an answer.

    Raises
    ------
    ProtocolError
        It is no such answer.
    """
    try:
        tensors = _tensors(body, len(body) if json_bytes is None else int(json_bytes))
        vectors = _numbers(tensors["embedding"])
        reasons = tuple(_texts(tensors["error"]))
        told = _types(tensors, columns) if columns else {}
    except (KeyError, ValueError, TypeError, struct.error) as error:
        raise ProtocolError(
            f"The answer has not the tensors of cells ({error!r}). Use a client and a server of the same version."
        ) from error
    return Part(first_row, vectors, reasons, told)


def _tensors(body: bytes, json_bytes: int) -> Tensors:
    """Shape and bytes of each output."""
    found, start = {}, json_bytes
    for output in json.loads(body[:json_bytes])["outputs"]:
        stop = start + output["parameters"]["binary_data_size"]
        found[output["name"]] = (output["shape"], memoryview(body)[start:stop])
        start = stop
    return found


def _numbers(tensor: tuple[list[int], memoryview]) -> NDArray[np.float32]:
    shape, data = tensor
    return np.frombuffer(data, "<f4").reshape(shape).astype(np.float32)  # a copy, of our own


def _texts(tensor: tuple[list[int], memoryview]) -> list[str]:
    """The elements of a tensor of BYTES, row after row."""
    texts, data, start = [], tensor[1], 0
    while start < len(data):
        (length,) = _LENGTH.unpack_from(data, start)
        start += _LENGTH.size + length
        texts.append(bytes(data[start - length : start]).decode())
    return texts


def _types(tensors: Tensors, columns: Sequence[Column]) -> dict[str, NDArray[Any]]:
    """Places of words, and confidences, by column."""
    place = {word: number for number, word in enumerate(columns[0].words)} | {"": -1}
    shape, _ = tensors["candidates"]
    best = np.array([place[word] for word in _texts(tensors["label"])], np.int32)
    labels = np.array([place[word] for word in _texts(tensors["candidates"])], np.int32).reshape(shape)
    sure = _numbers(tensors["candidate_confidences"])
    told: dict[str, NDArray[Any]] = {"label": best, "confidence": _numbers(tensors["confidence"])}
    for rank in range(shape[1]):
        told |= {f"label_{rank + 1}": labels[:, rank], f"confidence_{rank + 1}": sure[:, rank]}
    return told
