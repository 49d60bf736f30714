"""Bytes of an ONNX graph that is nothing but matrix products.

In: a precision, a width and how many products follow each other. Out: some two hundred bytes. Its one weight comes
from ConstantOfShape, which ONNX Runtime folds into a constant and lays out for its kernels when it opens the graph.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.onnx_bytes import ELEMENTS, attribute, model, node, tensor, value

__all__ = ["KINDS", "graph_bytes"]


class _Kind(NamedTuple):
    """Types of left side and answer, the operator, and one element of the weight as it is made. A weight of a type
    that cannot be made is cast, which is folded into the constant too.
    """

    left: str
    answer: str
    operator: str
    element: NDArray[Any]


KINDS = {
    "fp32": _Kind("float32", "float32", "MatMul", np.array([2**-7], np.float32)),
    "fp16": _Kind("float16", "float16", "MatMul", np.array([2**-7], np.float16)),
    "bf16": _Kind("bfloat16", "bfloat16", "MatMul", np.array([2**-7], np.float32)),
    "int8": _Kind("uint8", "int32", "MatMulInteger", np.array([1], np.int8)),
}
"""Precision to what its product is made of. No processor has the one of bf16 in ONNX Runtime."""


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
    cast = precision == "bf16"
    nodes = [node("ConstantOfShape", ["shape"], "made" if cast else "w", attribute("value", kind.element))]
    if cast:
        nodes.append(node("Cast", ["made"], "w", attribute("to", ELEMENTS[kind.left])))
    names = ["x", *(f"y{place}" for place in range(1, depth)), "y"]
    nodes += [node(kind.operator, [names[place], "w"], names[place + 1]) for place in range(depth)]
    axes = ("rows", width)
    return model(
        "products",
        nodes,
        [value("x", kind.left, axes)],
        [value("y", kind.answer, axes)],
        [tensor("shape", np.array([width, width], np.int64))],
    )
