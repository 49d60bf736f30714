"""A perturbation generator small enough to see through, made by hand: no torch, no exporter.

Its graph answers a token's own value, or zero where its gene is perturbed, plus the sum over the cell's perturbed
tokens of (id + 1) / 16: a flag that is lost, a row that swaps and a token that is missing all show, and effects add up.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import toy_bundle
from scgpt_runtime.bundle import seal
from scgpt_runtime.manifest import GraphRecord, TensorSpec
from scgpt_runtime.vocab import Vocabulary

NAMES = ("A", "B", "C", "D", "E", "F", "G", "H", "<pad>", "<cls>")
SETTINGS = replace(toy_bundle.SETTINGS, cls_id=9, pad_id=8, value_style="raw", pad_value=0.0, cls_value=0.0)
BOTH = ("cells", "tokens")


def effect(*genes: str) -> float:
    """What perturbing these genes adds to every token."""
    return sum(NAMES.index(gene) + 1 for gene in genes) / 16


def model(*, nonzero: bool):
    """The graph ``perturb`` as an ONNX ModelProto."""
    node = helper.make_node
    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.UINT16, BOTH),
        helper.make_tensor_value_info("values", TensorProto.FLOAT, BOTH),
        helper.make_tensor_value_info("flags", TensorProto.UINT8, BOTH),
    ]
    constants = {"one": np.float32(1), "sixteen": np.float32(16), "half": np.float32(0.5), "zero": np.float32(0)}
    initializers = [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()]
    initializers.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))
    nodes = [
        node("Cast", ["ids"], ["i"], to=TensorProto.FLOAT),
        node("Cast", ["flags"], ["f"], to=TensorProto.FLOAT),
        node("Add", ["i", "one"], ["i1"]),
        node("Div", ["i1", "sixteen"], ["each"]),
        node("Mul", ["each", "f"], ["flagged"]),
        node("ReduceSum", ["flagged", "axis"], ["effect"]),
        node("Sub", ["one", "f"], ["kept"]),
        node("Mul", ["values", "kept"], ["own"]),
        node("Add", ["own", "effect"], ["value"]),
        node("ReduceSum", ["value", "axis"], ["cell"]),
    ]
    outputs = [helper.make_tensor_value_info("value", TensorProto.FLOAT, BOTH)]
    if nonzero:
        nodes += [node("Mul", ["values", "zero"], ["nothing"]), node("Add", ["nothing", "half"], ["nonzero"])]
        outputs.append(helper.make_tensor_value_info("nonzero", TensorProto.FLOAT, BOTH))
    outputs.append(helper.make_tensor_value_info("cell", TensorProto.FLOAT, ("cells", 1)))
    graph = helper.make_graph(nodes, "perturb", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write(folder: Path, *, nonzero: bool = False) -> Path:
    """Seal a toy generator in ``folder``."""
    (folder / "graphs").mkdir(parents=True)
    (folder / "graphs" / "perturb.onnx").write_bytes(model(nonzero=nonzero).SerializeToString())
    (folder / "vocab.json").write_text(Vocabulary(NAMES).to_json(), encoding="utf-8")
    toy_bundle.golden().save(folder / "golden.npz")
    inputs = tuple(
        TensorSpec(name, dtype, BOTH) for name, dtype in (("ids", "uint16"), ("values", "float32"), ("flags", "uint8"))
    )
    told = ("value", "nonzero") if nonzero else ("value",)
    outputs = (*(TensorSpec(name, "float32", BOTH) for name in told), TensorSpec("cell", "float32", ("cells", 1)))
    graph = GraphRecord("perturb", "fp32", "portable", "graphs/perturb.onnx", 17, inputs, outputs)
    seal(folder, toy_bundle.manifest(name="toy-generator", graphs=(graph,), tokenizer=SETTINGS, dim=1))
    return folder
