"""Which data files an ONNX graph refers to, read from its bytes.

In: the bytes of a ``.onnx`` file. Out: the locations of its external tensors. It follows the few
protobuf fields of ONNX's ``onnx.proto`` under which a tensor can lie and skips all others, so the
runtime needs no onnx package to know that a graph reads nothing but files of its own bundle.
"""

from collections.abc import Iterator

from scgpt_runtime.wire import BYTES, fields, not_a_graph

__all__ = ["external_locations", "external_places"]

# Message to {field number: message below it}, from onnx.proto; fields that lead to no tensor are skipped.
_BELOW = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
}
_ENTRY = 13  # TensorProto.external_data
_DEEPEST = 100  # protobuf's own limit on nesting


def external_locations(model: bytes) -> set[str]:
    """Locations of every external tensor of an ONNX model, as the file spells them.

    Raises
    ------
    BundleError
        The bytes are not an ONNX model.
    """
    entries = (entry for tensor in _tensors(memoryview(model)) for entry in _entries(tensor))
    return {location for entry in entries for location in _location(entry)}


def external_places(model: memoryview) -> list[dict[str, memoryview]]:
    """Where each external tensor of an ONNX model lies: ``location``, ``offset`` and so on to the text of it.

    Parameters
    ----------
    model
        The bytes; the texts are views of them, so those of a `bytearray` can be written over.

    Raises
    ------
    BundleError
        The bytes are not an ONNX model.
    """
    found = []
    for tensor in _tensors(model):
        pairs = [dict(_texts(entry)) for entry in _entries(tensor)]
        if pairs:
            found.append({bytes(pair[1]).decode("utf-8", "replace"): pair[2] for pair in pairs if {1, 2} <= {*pair}})
    return found


def _tensors(model: memoryview) -> Iterator[memoryview]:
    """Every tensor of a model, wherever one can lie."""
    pending: list[tuple[str, memoryview, int]] = [("Model", model, 0)]
    while pending:
        kind, message, depth = pending.pop()
        if depth > _DEEPEST:
            raise not_a_graph("nested too deep")
        if kind == "Tensor":
            yield message
            continue
        below = _BELOW[kind]
        pending += [
            (below[number], inner, depth + 1)
            for number, wire, inner in fields(message)
            if wire == BYTES and number in below
        ]


def _entries(tensor: memoryview) -> list[memoryview]:
    return [entry for number, wire, entry in fields(tensor) if (number, wire) == (_ENTRY, BYTES)]


def _texts(entry: memoryview) -> list[tuple[int, memoryview]]:
    """Key (1) and value (2) of an entry, as often as they come: protobuf lets a field come twice."""
    return [(number, part) for number, wire, part in fields(entry) if wire == BYTES]


def _location(entry: memoryview) -> Iterator[str]:
    """Every value of an entry that has the key ``location`` among its keys."""
    parts = _texts(entry)
    if any(number == 1 and bytes(part) == b"location" for number, part in parts):
        for number, part in parts:
            if number == 2:
                yield bytes(part).decode("utf-8", "replace")
