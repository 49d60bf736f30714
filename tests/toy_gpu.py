"""What stands for a GPU in tests: the toy graph in the shapes of the CUDA dialects, and devices that fail on demand."""

from collections.abc import Callable

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import toy_bundle as toy
from scgpt_runtime.device_memory import CudaCallError, HostMemory


def said(code: int, text: str) -> str:
    """What ONNX Runtime says of a failed call of CUDA."""
    return f"CUDA failure {code}: {text} ; GPU=0 ; hostname=here ; file=cuda.cc ; line=7 ; expr=cudaCall();"


OUT_OF_MEMORY = said(2, "out of memory")
LOST = said(700, "an illegal memory access was encountered")
REFUSED = said(901, "operation failed due to a previous error during capture")


def packed_model():
    """The toy graph for packed cells: the same answers, by differences of running sums."""
    value, node = helper.make_tensor_value_info, helper.make_node
    inputs = [
        value("ids", TensorProto.UINT16, ["tokens"]),
        value("values", TensorProto.UINT8, ["tokens"]),
        value("offsets", TensorProto.INT32, ["cells_plus_1"]),
        value("places", TensorProto.INT32, ["cells", "longest"]),
        value("firsts", TensorProto.INT32, ["cells"]),
    ]
    constants = {"zero": np.zeros((1, 4)), "axis": np.array(0), "from1": np.array([1]), "last": np.array([2**31 - 1])}
    constants |= {"from0": np.array([0]), "butlast": np.array([-1]), "axes": np.array([0]), "columns": np.array([1])}
    nodes = [
        node("Cast", ["ids"], ["i"], to=TensorProto.DOUBLE),
        node("Cast", ["values"], ["v"], to=TensorProto.DOUBLE),
        node("Mul", ["i", "v"], ["iv"]),
        node("Sub", ["i", "i"], ["none"]),
        *(node("Unsqueeze", [name, "columns"], [f"{name}1"]) for name in ("i", "v", "iv", "none")),
        node("Concat", ["i1", "v1", "iv1", "none1"], ["all"], axis=1),
        node("CumSum", ["all", "axis"], ["sums"]),
        node("Concat", ["zero", "sums"], ["running"], axis=0),  # (tokens + 1, 4)
        node("Slice", ["offsets", "from1", "last", "axes"], ["stops"]),
        node("Slice", ["offsets", "from0", "butlast", "axes"], ["starts"]),
        node("Gather", ["running", "stops"], ["upto"]),
        node("Gather", ["running", "starts"], ["before"]),
        node("Sub", ["upto", "before"], ["sum"]),
        node("Sub", ["stops", "starts"], ["n"]),
        node("Cast", ["n"], ["nf"], to=TensorProto.DOUBLE),
        node("Unsqueeze", ["nf", "columns"], ["n1"]),
        node("Div", ["sum", "n1"], ["means"]),
        # Firsts and places take part, so that a wrong one shows: the first token's id, and the number of places.
        node("Gather", ["ids", "firsts"], ["cls"]),
        node("Cast", ["cls"], ["clsf"], to=TensorProto.DOUBLE),
        node("Unsqueeze", ["clsf", "columns"], ["cls1"]),
        node("Sub", ["cls1", "clsid"], ["off"]),
        node("Add", ["n1", "off"], ["length"]),
        node("Slice", ["means", "from0", "three", "columns"], ["front"]),
        node("Concat", ["front", "length"], ["cell64"], axis=1),
        node("Cast", ["cell64"], ["cell"], to=TensorProto.FLOAT),
    ]
    constants |= {"clsid": np.array([[float(toy.SETTINGS.cls_id)]]), "three": np.array([3])}
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    output = value("cell", TensorProto.FLOAT, ["cells", toy.DIM])
    graph = helper.make_graph(nodes, "embed", inputs, [output], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def exact_model():
    """The toy graph for cells of one length: it is told no lengths."""
    model = toy.model()
    graph = model.graph
    lengths = next(one for one in graph.input if one.name == "lengths")
    graph.input.remove(lengths)
    zero = numpy_helper.from_array(np.array([0], np.int64), "zero1")
    graph.initializer.append(zero)
    made = [
        helper.make_node("Shape", ["ids"], ["both"]),
        helper.make_node("Gather", ["both", "zero1"], ["cells"]),
        helper.make_node("Gather", ["both", "one0"], ["tokens"]),
        helper.make_node("Expand", ["tokens", "cells"], ["lengths"]),
    ]
    nodes = [*made, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return model


MODELS: dict[str, Callable] = {
    "cuda-packed": packed_model,
    "cuda-lengths": toy.model,
    "cuda-flash": toy.model,
    "cuda-exact": exact_model,
}
"""The toy graph by dialect; of the padded ones the inputs are the same."""


class FailingMemory(HostMemory):
    """Host memory that fails on demand.

    Parameters
    ----------
    room
        Bytes of a batch that fit.
    on
        Name of a function to which of its calls, counted from 1, fails with which text.
    """

    def __init__(self, device: int = 0, room: int | None = None, on: dict[str, dict[int, str]] | None = None) -> None:
        super().__init__(device)
        self._room, self._on = room, on or {}
        self.calls: dict[str, int] = {}

    def _count(self, name: str) -> None:
        self.calls[name] = self.calls.get(name, 0) + 1
        text = self._on.get(name, {}).get(self.calls[name])
        if text is not None:
            raise CudaCallError(text)

    def start(self) -> None:
        self._count("start")

    def staging(self, size):
        self._count("staging")
        return super().staging(size)

    def free_staging(self, staging) -> None:
        self._count("free_staging")

    def take(self, size):
        self._count("take")
        return super().take(size)

    def give_back(self, address) -> None:
        self._count("give_back")
        super().give_back(address)

    def copy_in(self, address, staging) -> None:
        self._count("copy_in")
        if self._room is not None and staging.nbytes > self._room:
            raise CudaCallError(OUT_OF_MEMORY)
        super().copy_in(address, staging)

    def wait(self) -> None:
        self._count("wait")

    def end(self) -> None:
        self._count("end")

    @property
    def held(self) -> int:
        """Pieces of device memory that were not given back."""
        return len(self._taken)
