"""Protobuf's wire format, as far as an ONNX file needs it: the fields of a message, one after the other.

In: the bytes of a message. Out: numbers, kinds and bytes of its fields. It knows no message by name, so the runtime
needs no protobuf package to look into a graph.
"""

from collections.abc import Iterator

from scgpt_runtime.errors import BundleError

__all__ = ["BYTES", "NUMBER", "fields", "not_a_graph", "number"]

NUMBER, BYTES = 0, 2
"""Kinds of fields: a base-128 number; a length and as many bytes, which may be a message again."""

_FIXED = {1: 8, 5: 4}  # kinds of fields that have a size of their own


def fields(message: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Number, kind and content of each field of a message that is a number or bytes.

    Raises
    ------
    BundleError
        The bytes are no message.
    """
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        kind, start = tag & 7, at
        if kind == NUMBER:
            _, at = _varint(message, at)
        elif kind in _FIXED:
            at += _FIXED[kind]
        elif kind == BYTES:
            size, start = _varint(message, at)
            at = start + size
        else:
            raise not_a_graph(f"wire type {kind}")
        if at > end:
            raise not_a_graph("a field runs past the end")
        if kind in (NUMBER, BYTES):
            yield tag >> 3, kind, message[start:at]


def number(content: memoryview) -> int:
    """The number that the content of a field of kind `NUMBER` stands for."""
    return _varint(content, 0)[0]


def not_a_graph(why: str) -> BundleError:
    """The error for bytes that are no ONNX file."""
    return BundleError(f"A graph of the bundle is not an ONNX file ({why}). Take a fresh copy of the bundle.")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A base-128 number and the position behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise not_a_graph("a number has no end")
