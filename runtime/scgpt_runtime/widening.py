"""An ONNX graph whose unsigned inputs are int32, for an engine that takes no other integers.

In: the bytes of a ``.onnx`` file. Out: the bytes of the same graph, and what its inputs were and are. Nothing else is
changed: a graph of ours casts its integer inputs before it uses them, and a cast takes int32 as well.
"""

from scgpt_runtime.errors import BundleError
from scgpt_runtime.records import TensorSpec
from scgpt_runtime.wire import BYTES, NUMBER, fields, not_a_graph, number

__all__ = ["widened"]

# Field numbers of onnx.proto3: ModelProto.graph; GraphProto.initializer, .input; ValueInfoProto.name, .type;
# TypeProto.tensor_type; TypeProto.Tensor.elem_type, .shape; TensorShapeProto.dim; Dimension.dim_value, .dim_param.
_GRAPH, _INPUT, _NAME, _TYPE, _TENSOR, _ELEMENT, _SHAPE, _DIM, _SIZE, _AXIS = 7, 11, 1, 2, 1, 1, 2, 1, 1, 2

_DTYPES = {1: "float32", 2: "uint8", 4: "uint16", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 12: "uint32"}
_UNSIGNED = (2, 4, 12)
_INT32 = 6


def widened(model: bytes) -> tuple[bytes, tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Make the unsigned inputs of a graph int32.

    Parameters
    ----------
    model
        An ONNX file; its weights may lie outside.

    Returns
    -------
    model, before, after
        The changed file, the inputs as they were, and the inputs as they are now, in the graph's order.

    Raises
    ------
    BundleError
        The bytes are not an ONNX file, or an input is no tensor.
    """
    copy = bytearray(model)
    before, after = [], []
    for graph in _below(memoryview(copy), _GRAPH):
        for value in _below(graph, _INPUT):
            was, now = _widen(value)
            before.append(was)
            after.append(now)
    return bytes(copy), tuple(before), tuple(after)


def _widen(value: memoryview) -> tuple[TensorSpec, TensorSpec]:
    """Change one input in place: the number of an element type is one byte, whichever it is."""
    name = "".join(bytes(part).decode("utf-8", "replace") for part in _below(value, _NAME))
    tensors = [tensor for kind in _below(value, _TYPE) for tensor in _below(kind, _TENSOR)]
    kinds = [part for tensor in tensors for found, wire, part in fields(tensor) if (found, wire) == (_ELEMENT, NUMBER)]
    if len(tensors) != 1 or [len(kind) for kind in kinds] != [1] or number(kinds[0]) not in _DTYPES:
        raise not_a_graph(f"input {name} is no tensor of a type that is known")
    shape = tuple(_axis(dim) for laid in _below(tensors[0], _SHAPE) for dim in _below(laid, _DIM))
    was = number(kinds[0])
    now = _INT32 if was in _UNSIGNED else was
    kinds[0][0] = now
    return TensorSpec(name, _DTYPES[was], shape), TensorSpec(name, _DTYPES[now], shape)


def _axis(dim: memoryview) -> int | str:
    """A size, or the name of a free axis."""
    for found, wire, part in fields(dim):
        if (found, wire) == (_SIZE, NUMBER):
            return number(part)
        if (found, wire) == (_AXIS, BYTES):
            return bytes(part).decode("utf-8", "replace")
    raise BundleError("A graph of the bundle has an input with a nameless free axis. Export the bundle again.")


def _below(message: memoryview, wanted: int) -> list[memoryview]:
    return [part for found, wire, part in fields(message) if (found, wire) == (wanted, BYTES)]
