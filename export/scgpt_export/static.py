"""int8 linear layers with static activation ranges, in standard operators: QuantizeLinear and DequantizeLinear.

In: a traced float32 model and the range that each activation was seen in. Out: the model in the form that engines with
int8 kernels look for. Weights are the same integers as those of `scgpt_export.quantize`. It reads no cells.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from scgpt_export.quantize import LARGEST_CODE, is_linear, quantize_weight

__all__ = ["Range", "StaticLinears", "sources", "step_of", "watched"]

Range = tuple[float, float]
"""Smallest and largest value of an activation."""

_TINY = 1e-30


def sources(model: ir.Model) -> list[ir.Value]:
    """Activations that static int8 quantises, in order of first use.

    They are what goes into a linear layer for every token of a cell. A layer that only ``<cls>`` goes through costs
    nothing and stays float32.
    """
    found: dict[ir.Value, None] = {}
    for node in model.graph:
        if is_linear(node) and (source := node.inputs[0]) is not None and not _one_token(source):
            found[source] = None
    return list(found)


def watched(model: ir.Model) -> ir.Model:
    """A copy of a model whose only outputs are the smallest and the largest value of each of its `sources`, in turn."""
    copy = model.clone()
    graph = copy.graph
    graph.outputs.clear()
    for number, source in enumerate(sources(copy)):
        for name, operator in (("low", "ReduceMin"), ("high", "ReduceMax")):
            node = ir.node(operator, [source], {"keepdims": 0})
            bound = node.outputs[0]
            bound.name, bound.shape, bound.type = f"{name}{number}", ir.Shape([]), ir.TensorType(ir.DataType.FLOAT)
            graph.append(node)
            graph.outputs.append(bound)
    return copy


def step_of(bounds: Range) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Scale and zero point of uint8 codes for a range, which is widened to hold 0 exactly."""
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    scale = np.float32(max((high - low) / LARGEST_CODE, _TINY))
    return np.array(scale, np.float32), np.array(np.clip(np.rint(-low / scale), 0, LARGEST_CODE), np.uint8)


class StaticLinears(ir.passes.InPlacePass):
    """Quantise the linear layers that all tokens go through.

    Parameters
    ----------
    ranges
        Of each of the model's `sources`, in their order.

    Notes
    -----
    Ensures that each activation is rounded once however many layers read it, and that no scale depends on what the
    model is fed: no cell can change another.
    """

    def __init__(self, ranges: Sequence[Range]) -> None:
        super().__init__()
        self.ranges = tuple(ranges)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite every layer in place."""
        graph = model.graph
        for number, (source, bounds) in enumerate(zip(sources(model), self.ranges, strict=True)):
            layers = [node for node, place in source.uses() if place == 0 and is_linear(node)]
            before = next(node for node in graph if node in layers)
            step, middle = step_of(bounds)
            scale, zero = _constant(graph, f"s.{number}.scale", step), _constant(graph, f"s.{number}.zero", middle)
            codes = ir.node("QuantizeLinear", [source, scale, zero])
            rounded = ir.node("DequantizeLinear", [codes.outputs[0], scale, zero])
            graph.insert_before(before, [codes, rounded])
            for layer in layers:
                layer.replace_input_with(0, rounded.outputs[0])
                _quantise_weight(graph, layer)
        return ir.passes.PassResult(model, modified=bool(self.ranges))


def _quantise_weight(graph: ir.Graph, layer: ir.Node) -> None:
    weight = layer.inputs[1]
    if weight is None or weight.const_value is None:
        return
    integers, channel = quantize_weight(weight.const_value.numpy())
    w = _constant(graph, f"{weight.name}.int8", integers)
    s = _constant(graph, f"{weight.name}.scale", channel)
    floating = ir.node("DequantizeLinear", [w, s], {"axis": 1})
    graph.insert_before(layer, floating)
    layer.replace_input_with(1, floating.outputs[0])


def _constant(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """An initializer; the one of this name where there is one already."""
    if name not in graph.initializers:
        graph.register_initializer(ir.val(name, const_value=ir.tensor(array, name=name)))
    return graph.initializers[name]


def _one_token(source: ir.Value) -> bool:
    """Whether an activation (cells, tokens, n_in) is of one token, by the shape that tracing gave it."""
    return source.shape is not None and len(source.shape) == 3 and source.shape[1] == 1
