"""Bytes of an ONNX graph that is nothing but matrix products, for ONNX Runtime without the onnx package.

In: a precision, a width and how many products follow each other. Out: some two hundred bytes. Its one weight comes
from ConstantOfShape, which ONNX Runtime folds into a constant and lays out for its kernels when it opens the graph.
The few protobuf fields used are numbered as in onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from typing import NamedTuple

__all__ = ["KINDS", "graph_bytes"]


class _Kind(NamedTuple):
    """ONNX's numbers of the types of left side, weight as it is made, and answer, the operator, and one weight
    element's bytes. A weight of another type than its maker can make is cast, which is folded into the constant too.
    """

    left: int
    weight: int
    answer: int
    operator: str
    element: bytes


KINDS = {
    "fp32": _Kind(1, 1, 1, "MatMul", b"\x00\x00\x00\x3c"),  # 2^-7
    "fp16": _Kind(10, 10, 10, "MatMul", b"\x00\x20"),  # 2^-7
    "bf16": _Kind(16, 1, 16, "MatMul", b"\x00\x00\x00\x3c"),
    "int8": _Kind(2, 3, 6, "MatMulInteger", b"\x01"),
}
"""Precision to what its product is made of. No processor has the one of bf16 in ONNX Runtime."""

_OPSET, _IR_VERSION = 17, 8
_INT64, _INTS_OF_TENSOR, _TENSOR, _INT = 7, 7, 4, 2


def graph_bytes(precision: str, width: int, depth: int) -> bytes:
    """An ONNX model with input ``x`` (rows, width) and output ``y``: `depth` products with one (width, width) weight.

    Parameters
    ----------
    precision
        A key of `KINDS`. Products of int8 end in int32, so `depth` must be 1 there.
    width, depth
        Size of the weight, and products in a row.
    """
    kind = KINDS[precision]
    shape = _number(1, 2) + _number(2, _INT64) + _text(8, "shape") + _bytes(_INTS_OF_TENSOR, 2 * _varint(width))
    element = _number(1, 1) + _number(2, kind.weight) + _bytes(9, kind.element)
    value = _text(1, "value") + _bytes(5, element) + _number(20, _TENSOR)
    cast = kind.operator == "MatMul" and kind.weight != kind.left
    nodes = [_node("ConstantOfShape", ["shape"], "made" if cast else "w", value)]
    if cast:
        target = _text(1, "to") + _number(3, kind.left) + _number(20, _INT)
        nodes.append(_node("Cast", ["made"], "w", target))
    names = ["x", *(f"y{place}" for place in range(1, depth)), "y"]
    nodes += [_node(kind.operator, [names[place], "w"], names[place + 1]) for place in range(depth)]
    graph = b"".join(_bytes(1, node) for node in nodes) + _text(2, "products") + _bytes(5, shape)
    graph += _bytes(11, _value("x", kind.left, width)) + _bytes(12, _value("y", kind.answer, width))
    return _number(1, _IR_VERSION) + _bytes(7, graph) + _bytes(8, _text(1, "") + _number(2, _OPSET))


def _node(operator: str, inputs: list[str], output: str, attribute: bytes = b"") -> bytes:
    told = b"".join(_text(1, name) for name in inputs) + _text(2, output) + _text(4, operator)
    return told + (_bytes(5, attribute) if attribute else b"")


def _value(name: str, element: int, width: int) -> bytes:
    axes = _bytes(1, _text(2, "rows")) + _bytes(1, _number(1, width))
    tensor = _number(1, element) + _bytes(2, axes)
    return _text(1, name) + _bytes(2, _bytes(1, tensor))


def _number(field: int, number: int) -> bytes:
    return _varint(field << 3) + _varint(number)


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode())


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the top bit says that more follow."""
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
