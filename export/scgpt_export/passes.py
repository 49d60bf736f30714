"""ONNX graph passes that every precision goes through, on onnx_ir's pass infrastructure.

In: a traced float32 model. Out: the same model, changed in place. `sequence` gives the ordered list
for a precision; a pass that fails is named by onnx_ir.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import ClearMetadataAndDocStringPass, RemoveUnusedNodesPass, RemoveUnusedOpsetsPass

from scgpt_export.quantize import QuantizeLinears
from scgpt_export.routes import Reroute
from scgpt_export.static import Range, StaticLinears

__all__ = ["Anonymise", "Halve", "sequence"]

_HALVES = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}


class Anonymise(ir.passes.InPlacePass):
    """Remove what tells of the machine that exported: names, versions, shape annotations of inner values.

    Ensures that equal graphs are equal bytes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Clear producer, names and inner value information."""
        model.producer_name = model.producer_version = model.domain = None
        model.model_version = None
        model.doc_string = None
        model.metadata_props.clear()
        graph = model.graph
        graph.name = "scgpt"
        graph.doc_string = None
        boundary = {*graph.inputs, *graph.outputs}
        for value in boundary:
            value.metadata_props.clear()
            value.doc_string = None
        for number, node in enumerate(graph):
            node.name = f"{node.op_type}_{number}"
            for position, value in enumerate(node.outputs):
                value.metadata_props.clear()
                if value not in boundary:
                    value.name = f"{node.name}.{position}"
                    value.shape = value.type = None
        for value in graph.initializers.values():
            value.metadata_props.clear()
            value.doc_string = None
            if value.const_value is not None:
                value.const_value.doc_string = None
        _number_weights(graph)
        return ir.passes.PassResult(model, modified=True)


def _number_weights(graph: ir.Graph) -> None:
    """Name weights by their order of use: the tracer's own names count its private steps."""
    order: dict[ir.Value, None] = {}
    for node in graph:
        for value in node.inputs:
            if value is not None and value.is_initializer():
                order[value] = None
    weights = list(order)
    graph.initializers.clear()
    for number, value in enumerate(weights):
        value.name = f"w{number:04d}"
        if value.const_value is not None:
            value.const_value.name = value.name
        graph.initializers[value.name] = value


class Halve(ir.passes.InPlacePass):
    """Float32 becomes a type of half the size inside; inputs and outputs stay what they are.

    LayerNormalization keeps its float32 accumulation by its own definition (``stash_type`` 1), and
    SkipLayerNormalization by the settings of who runs it.

    Parameters
    ----------
    dtype
        float16 or bfloat16.
    """

    def __init__(self, dtype: ir.DataType) -> None:
        super().__init__()
        self.dtype = dtype

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Convert weights and casts, then cast at the borders."""
        graph = model.graph
        for value in graph.initializers.values():
            if value.const_value is not None and value.const_value.dtype == ir.DataType.FLOAT:
                value.const_value = self._halved(value.const_value)
                value.type = ir.TensorType(self.dtype)
        for node in graph:
            target = node.attributes.get("to")
            if node.op_type == "Cast" and target is not None and target.as_int() == ir.DataType.FLOAT:
                node.attributes["to"] = ir.AttrInt64("to", self.dtype)
            constant = node.attributes.get("value")
            if node.op_type in ("Constant", "ConstantOfShape") and constant is not None:
                tensor = constant.as_tensor()
                if tensor.dtype == ir.DataType.FLOAT:
                    node.attributes["value"] = ir.AttrTensor("value", self._halved(tensor))
        for value in list(graph.inputs):
            if value.dtype == ir.DataType.FLOAT:
                _cast_after(graph, value, self.dtype)
        for position, value in enumerate(list(graph.outputs)):
            if value.dtype == ir.DataType.FLOAT:
                _cast_output(graph, position, value)
        return ir.passes.PassResult(model, modified=True)

    def _halved(self, tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        # A weight beyond float16's range becomes infinite here, and parity then leaves the precision out.
        with np.errstate(over="ignore"):
            return ir.tensor(tensor.numpy().astype(self.dtype.numpy()), name=tensor.name)


def _cast_after(graph: ir.Graph, value: ir.Value, dtype: ir.DataType) -> None:
    uses = list(value.uses())
    cast = ir.node("Cast", [value], {"to": int(dtype)})
    graph.insert_before(graph[0], cast)
    for user, position in uses:
        user.replace_input_with(position, cast.outputs[0])


def _cast_output(graph: ir.Graph, position: int, value: ir.Value) -> None:
    inner = value.producer()
    if inner is None:
        raise ValueError(f"output {value.name} is not computed")
    cast = ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT)})
    graph.insert_after(inner, cast)
    result = cast.outputs[0]
    result.name, value.name = value.name, f"{value.name}.half"
    result.shape, result.type = value.shape, ir.TensorType(ir.DataType.FLOAT)
    graph.outputs[position] = result


def sequence(precision: str, dialect: str = "portable", ranges: Sequence[Range] = ()) -> ir.passes.Sequential:
    """The passes for a precision and dialect, in order.

    Parameters
    ----------
    precision
        ``fp32``, ``fp16``, ``bf16`` or ``int8``.
    dialect
        Of the graph that is wanted. ``cuda-flash`` and ``cuda-exact`` are made of a ``cuda-lengths`` model, all others
        of one of their own.
    ranges
        Of the activations, for static int8; int8 is dynamic without.
    """
    route = (Reroute(dialect),) if dialect in ("cuda-flash", "cuda-exact") else ()
    if precision in _HALVES:
        convert: tuple[ir.passes.PassBase, ...] = (Halve(_HALVES[precision]),)
    elif precision == "int8":
        convert = (StaticLinears(ranges) if ranges else QuantizeLinears(),)
    else:
        convert = ()
    return ir.passes.Sequential(
        *route,
        *convert,
        RemoveUnusedNodesPass(),
        RemoveUnusedOpsetsPass(),
        ClearMetadataAndDocStringPass(),
        Anonymise(),
    )
