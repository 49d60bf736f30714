"""Bytes of small ONNX graphs, written without the onnx package, which a machine that only runs models does not have.

In: operators, names, shapes and arrays. Out: the messages of an ONNX file, one function for each kind. The fields are
numbered as in onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). It checks no graph.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.wire import BYTES, NUMBER

__all__ = ["ELEMENTS", "attribute", "model", "node", "tensor", "value"]

ELEMENTS = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "float16": 10, "bfloat16": 16}
"""ONNX's number of each type of element."""

_INT, _TENSOR, _INTS = 2, 4, 7  # kinds of attributes


def model(
    name: str,
    nodes: Sequence[bytes],
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    tensors: Sequence[bytes] = (),
    opset: int = 17,
    ir_version: int = 8,
) -> bytes:
    """A whole file.

    Parameters
    ----------
    name
        Of the graph.
    nodes, inputs, outputs, tensors
        Messages of `node`, of `value` and, for weights, of `tensor`.
    opset, ir_version
        Of the standard's operators, and of the file. 17 goes with 8.
    """
    graph = b"".join(_bytes(1, told) for told in nodes) + _text(2, name)
    graph += b"".join(_bytes(5, told) for told in tensors)
    graph += b"".join(_bytes(11, told) for told in inputs) + b"".join(_bytes(12, told) for told in outputs)
    return _number(1, ir_version) + _bytes(7, graph) + _bytes(8, _text(1, "") + _number(2, opset))


def node(operator: str, inputs: Sequence[str], output: str, *attributes: bytes) -> bytes:
    """An operator of the standard with one output."""
    told = b"".join(_text(1, name) for name in inputs) + _text(2, output) + _text(4, operator)
    return told + b"".join(_bytes(5, told) for told in attributes)


def attribute(name: str, held: int | Sequence[int] | NDArray[Any]) -> bytes:
    """An attribute of a `node`; the type of its value decides its kind."""
    head = _text(1, name)
    if isinstance(held, np.ndarray):
        return head + _bytes(5, tensor("", held)) + _number(20, _TENSOR)
    if isinstance(held, int):
        return head + _number(3, held) + _number(20, _INT)
    return head + _bytes(8, b"".join(_varint(number) for number in held)) + _number(20, _INTS)


def value(name: str, element: str, axes: Sequence[int | str]) -> bytes:
    """An input or output: its name, type of element (a key of `ELEMENTS`) and axes, free ones by name."""
    shape = b"".join(_bytes(1, _text(2, axis) if isinstance(axis, str) else _number(1, axis)) for axis in axes)
    return _text(1, name) + _bytes(2, _bytes(1, _number(1, ELEMENTS[element]) + _bytes(2, shape)))


def tensor(name: str, array: NDArray[Any]) -> bytes:
    """A constant array of a type that both numpy and `ELEMENTS` have."""
    sizes = b"".join(_number(1, size) for size in array.shape)
    content = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    return sizes + _number(2, ELEMENTS[array.dtype.name]) + (_text(8, name) if name else b"") + _bytes(9, content)


def _number(field: int, number: int) -> bytes:
    return _varint(field << 3 | NUMBER) + _varint(number)


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode())


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | BYTES) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the top bit says that more follow. Negative numbers are of 64 bits."""
    low, rest = number & 0x7F, (number & (1 << 64) - 1) >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
