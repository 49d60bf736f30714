"""Which data files an ONNX graph refers to, read from its bytes.

In: the bytes of a ``.onnx`` file. Out: the locations of its external tensors. It follows the few
protobuf fields of ONNX's ``onnx.proto`` under which a tensor can lie and skips all others, so the
runtime needs no onnx package to know that a graph reads nothing but files of its own bundle.
"""

from collections.abc import Iterator

from scgpt_runtime.wire import BYTES, fields, not_a_graph

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
            raise not_a_graph("nested too deep")
        if kind == "Entry":
            found.update(_location(message))
            continue
        below = _BELOW[kind]
        pending += [
            (below[number], inner, depth + 1)
            for number, wire, inner in fields(message)
            if wire == BYTES and number in below
        ]
    return found


def _location(entry: memoryview) -> Iterator[str]:
    """Every value of an entry that has the key ``location`` among its keys: protobuf lets a field come twice."""
    parts = [(number, part) for number, wire, part in fields(entry) if wire == BYTES]
    if any(number == 1 and bytes(part) == b"location" for number, part in parts):
        for number, part in parts:
            if number == 2:
                yield bytes(part).decode("utf-8", "replace")
