"""int8 linear layers with dynamic activation scales, one scale a token row.

A scale over the whole tensor, which DynamicQuantizeLinear would take, couples the cells of a batch: the
same cell gets another vector in other company. So the scale is taken over the last axis, in standard
operators, and weights have one scale an output channel.

Weights take 7 of the 8 bits: processors with AVX2 but without VNNI add pairs of products in 16 bits that
saturate, so that 255 times 127 twice would give another vector there than elsewhere, silently.
"""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

__all__ = ["LARGEST_CODE", "LARGEST_WEIGHT", "QuantizeLinears", "is_linear", "quantize_weight"]

# Below 32 inputs a layer has too little work to pay for measuring its activations (and the one-input
# value encoder would only lose).
_SMALLEST = 32
_TINY = np.float32(1e-30)
LARGEST_CODE = 255
LARGEST_WEIGHT = 64
"""Two products of an activation code (uint8) and a weight must not pass 32,767."""


def quantize_weight(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 with one scale an output channel.

    Parameters
    ----------
    weight
        (n_in, n_out), as MatMul takes it.

    Returns
    -------
    (n_in, n_out) int8 in -64..64, and (n_out,) float32 scales: ``weight ≈ int8 * scale``.
    """
    scale = np.maximum(np.abs(weight).max(axis=0) / np.float32(LARGEST_WEIGHT), _TINY).astype(np.float32)
    return np.rint(weight / scale).astype(np.int8), scale


class QuantizeLinears(ir.passes.InPlacePass):
    """Replace each MatMul by a float32 weight with an integer one.

    Ensures that activations are quantised to uint8 around 128 by the largest magnitude of their own row.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite every linear layer that is large enough."""
        graph = model.graph
        constants = _Constants(graph)
        linears = [node for node in graph if is_linear(node)]
        rows: dict[ir.Value, tuple[ir.Value, ir.Value]] = {}
        for node in linears:
            source = node.inputs[0]
            if source is None:
                continue
            if source not in rows:
                rows[source] = _quantize_rows(graph, node, source, constants)
            _replace(graph, node, *rows[source], constants)
        return ir.passes.PassResult(model, modified=bool(linears))


def is_linear(node: ir.Node) -> bool:
    """Whether a node multiplies by a float32 weight that is large enough to quantise."""
    if node.op_type != "MatMul" or node.inputs[1] is None:
        return False
    weight = node.inputs[1].const_value
    return (
        weight is not None
        and weight.dtype == ir.DataType.FLOAT
        and len(weight.shape) == 2
        and weight.shape.numpy()[0] >= _SMALLEST
    )


class _Constants:
    """The scalars that the rewriting needs, each once in the graph."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.last_axis = self.add("q.last_axis", np.array([-1], np.int64))
        self.range = self.add("q.range", np.array(127, np.float32))
        self.tiny = self.add("q.tiny", np.array(_TINY, np.float32))
        self.middle = self.add("q.middle", np.array(128, np.float32))
        self.zero_point = self.add("q.zero_point", np.array(128, np.uint8))

    def add(self, name: str, array: NDArray[np.generic]) -> ir.Value:
        """An initializer with this content."""
        value = ir.val(name, const_value=ir.tensor(array, name=name))
        self.graph.register_initializer(value)
        return value


def _quantize_rows(graph: ir.Graph, before: ir.Node, x: ir.Value, constants: _Constants) -> tuple[ir.Value, ir.Value]:
    """Quantise x (..., n_in) over its last axis: uint8 codes and float32 scales (..., 1)."""
    magnitude = ir.node("Abs", [x])
    largest = ir.node("ReduceMax", [magnitude.outputs[0], constants.last_axis], {"keepdims": 1})
    bounded = ir.node("Max", [largest.outputs[0], constants.tiny])
    scale = ir.node("Div", [bounded.outputs[0], constants.range])
    scaled = ir.node("Div", [x, scale.outputs[0]])
    rounded = ir.node("Round", [scaled.outputs[0]])
    shifted = ir.node("Add", [rounded.outputs[0], constants.middle])
    codes = ir.node("Cast", [shifted.outputs[0]], {"to": int(ir.DataType.UINT8)})
    graph.insert_before(before, [magnitude, largest, bounded, scale, scaled, rounded, shifted, codes])
    return codes.outputs[0], scale.outputs[0]


def _replace(graph: ir.Graph, node: ir.Node, codes: ir.Value, scale: ir.Value, constants: _Constants) -> None:
    """MatMul by its integer form: int32 sums, then the row's scale times the channel's."""
    weight = node.inputs[1]
    if weight is None or weight.const_value is None:
        return
    integers, channel = quantize_weight(weight.const_value.numpy())
    w = constants.add(f"{weight.name}.int8", integers)
    s = constants.add(f"{weight.name}.scale", channel)
    product = ir.node("MatMulInteger", [codes, w, constants.zero_point])
    floating = ir.node("Cast", [product.outputs[0]], {"to": int(ir.DataType.FLOAT)})
    by_channel = ir.node("Mul", [floating.outputs[0], s])
    by_row = ir.node("Mul", [by_channel.outputs[0], scale])
    graph.insert_before(node, [product, floating, by_channel, by_row])
    by_row.outputs[0].name = node.outputs[0].name  # it may be an output of the graph
    node.outputs[0].replace_all_uses_with(by_row.outputs[0], replace_graph_outputs=True)
    graph.remove(node, safe=True)
