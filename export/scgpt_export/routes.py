"""The routes of attention over padded cells: one traced graph becomes that of each dialect.

In: a model of dialect ``cuda-lengths``. Out: the same model with attention in the operator of another dialect. They are
one graph but for that operator, and tracing it anew would take as long as all the rest of an export.
"""

import onnx_ir as ir

__all__ = ["FLASH_OPSET", "Reroute"]

FLASH_OPSET = 24
"""First opset whose Attention knows how many keys of each cell are real."""


class Reroute(ir.passes.InPlacePass):
    """Give each attention node of a ``cuda-lengths`` model the operator of another dialect.

    Parameters
    ----------
    dialect
        ``cuda-flash``: the standard's own Attention. ``cuda-exact``: no lengths, since nothing is padded.

    Notes
    -----
    Requires, for ``cuda-exact``, that attention alone reads the lengths: that a cell's vector is its ``<cls>``'s.
    """

    def __init__(self, dialect: str) -> None:
        super().__init__()
        self.dialect = dialect

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Replace every node in place."""
        graph = model.graph
        lengths = next(value for value in graph.inputs if value.name == "lengths")
        nodes = [node for node in graph if node.op_type == "MultiHeadAttention"]
        if self.dialect == "cuda-flash":
            _to_standard(graph, nodes, lengths)
            # Operators that are standard already mean the same in both opsets.
            model.opset_imports[""] = FLASH_OPSET
        else:
            for node in nodes:
                node.resize_inputs(3)  # queries, keys, values
            if lengths.uses():
                raise ValueError("something beside attention reads the lengths of cells")
            graph.inputs.remove(lengths)
        return ir.passes.PassResult(model, modified=True)


def _to_standard(graph: ir.Graph, nodes: list[ir.Node], lengths: ir.Value) -> None:
    wide = ir.node("Cast", [lengths], {"to": int(ir.DataType.INT64)})
    graph.insert_before(graph[0], wide)
    for node in nodes:
        heads = node.attributes["num_heads"].as_int()
        inputs = [*node.inputs[:3], None, None, None, wide.outputs[0]]
        standard = ir.node("Attention", inputs, {"q_num_heads": heads, "kv_num_heads": heads})
        standard.outputs[0].shape, standard.outputs[0].type = node.outputs[0].shape, node.outputs[0].type
        graph.insert_before(node, standard)
        node.outputs[0].replace_all_uses_with(standard.outputs[0])
        graph.remove(node, safe=True)
