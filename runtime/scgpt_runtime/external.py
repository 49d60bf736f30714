"""Which data files an ONNX graph refers to, read from its bytes.

In: the bytes of a ``.onnx`` file. Out: the locations of its external tensors. It follows the few
protobuf fields of ONNX's ``onnx.proto`` under which a tensor can lie and skips all others, so the
runtime needs no onnx package to know that a graph reads nothing but files of its own bundle.
"""

from collections.abc import Iterator

from scgpt_runtime.errors import BundleError

__all__ = ["external_locations"]

# Message to {field number: message below it}, from onnx.proto; fields that lead to no tensor are skipped.
_BELOW = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}
_DEEPEST = 100  # protobuf's own limit on nesting


def external_locations(model: bytes) -> set[str]:
    """Locations of every external tensor of an ONNX model, as the file spells them.

    Raises
    ------
    BundleError
        The bytes are not an ONNX model.
    """
    found: set[str] = set()
    pending: list[tuple[str, memoryview, int]] = [("Model", memoryview(model), 0)]
    while pending:
        kind, message, depth = pending.pop()
        if depth > _DEEPEST:
            raise _not_a_graph("nested too deep")
        if kind == "Entry":
            found.update(_location(message))
            continue
        below = _BELOW[kind]
        pending += [(below[number], inner, depth + 1) for number, inner in _submessages(message) if number in below]
    return found


def _location(entry: memoryview) -> Iterator[str]:
    """Every value of an entry that has the key ``location`` among its keys: protobuf lets a field come twice."""
    parts = list(_submessages(entry))
    if any(number == 1 and bytes(part) == b"location" for number, part in parts):
        for number, part in parts:
            if number == 2:
                yield bytes(part).decode("utf-8", "replace")


def _submessages(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Field number and bytes of each length-delimited field of a message."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == 0:
            _, at = _varint(message, at)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        elif wire == 2:
            size, at = _varint(message, at)
            if at + size > end:
                raise _not_a_graph("a field runs past the end")
            yield tag >> 3, message[at : at + size]
            at += size
        else:
            raise _not_a_graph(f"wire type {wire}")
    if at != end:
        raise _not_a_graph("a field runs past the end")


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
    raise _not_a_graph("a number has no end")


def _not_a_graph(why: str) -> BundleError:
    return BundleError(f"A graph of the bundle is not an ONNX file ({why}). Take a fresh copy of the bundle.")
