"""A transformer of two layers in each of the CUDA dialects, and what it must answer, computed in numpy.

Made by hand with onnx alone, so that a GPU machine without the exporter, its checkpoints or anndata can run it. The
nodes are those of `scgpt_export.cuda`: three products, attention by the dialect's own operator, and two norms that add.
"""

from dataclasses import dataclass, field

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from scgpt_runtime.cells import TokenBlock
from scgpt_runtime.manifest import TokenizerSettings

GENES = 60
SETTINGS = TokenizerSettings(cls_id=GENES + 1, pad_id=GENES, max_length=320)
DIM, HEADS, INNER, LAYERS = 128, 2, 256, 2
EPSILON = 1e-5
TYPES = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}

Weights = dict[str, np.ndarray]


def weights(seed: int = 0) -> Weights:
    """Float32 weights of a size that makes attention prefer some tokens to others."""
    random = np.random.default_rng(seed)
    made = {
        "genes": random.normal(0, 1, (GENES + 2, DIM)),
        "levels": random.normal(0, 1, (SETTINGS.pad_code + 1, DIM)),
    }
    for layer in range(LAYERS):
        for name in ("query", "key", "value", "mixed"):
            made[f"{name}{layer}"] = random.normal(0, DIM**-0.5, (DIM, DIM)) * (2 if name in ("query", "key") else 1)
        made[f"inner{layer}"] = random.normal(0, DIM**-0.5, (DIM, INNER))
        made[f"outer{layer}"] = random.normal(0, INNER**-0.5, (INNER, DIM))
        made[f"floor{layer}"] = random.normal(0, 0.1, INNER)
        for name in ("query_bias", "mixed_bias", "outer_bias", "beta_a", "beta_b"):
            made[f"{name}{layer}"] = random.normal(0, 0.1, DIM)
        for name in ("gamma_a", "gamma_b"):
            made[f"{name}{layer}"] = random.normal(1, 0.1, DIM)
    return {name: array.astype(np.float32) for name, array in made.items()}


def tokens_of(lengths, seed: int = 0) -> TokenBlock:
    """Random cells of given lengths, ``<cls>`` first; 0: a cell without tokens."""
    random = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = random.integers(0, GENES, offsets[-1]).astype(np.uint16)
    values = random.integers(1, 51, offsets[-1]).astype(np.uint8)
    starts = offsets[:-1][np.asarray(lengths) > 0]
    ids[starts], values[starts] = SETTINGS.cls_id, SETTINGS.cls_code
    return TokenBlock(ids, values, offsets, (np.asarray(lengths) == 0).astype(np.uint8), 0)


def answer(w: Weights, tokens: TokenBlock, cell: int) -> np.ndarray:
    """The vector of one cell, (DIM,) float64."""
    part = slice(tokens.offsets[cell], tokens.offsets[cell + 1])
    x = (w["genes"][tokens.ids[part]] + w["levels"][tokens.values[part]]).astype(np.float64)  # (length, DIM)
    for n in range(LAYERS):
        q, k, v = x @ w[f"query{n}"] + w[f"query_bias{n}"], x @ w[f"key{n}"], x @ w[f"value{n}"]
        q, k, v = (part.reshape(len(x), HEADS, -1) for part in (q, k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(q.shape[-1])
        share = np.exp(scores - scores.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", share, v).reshape(len(x), DIM) @ w[f"mixed{n}"]
        h = _norm(mixed + x + w[f"mixed_bias{n}"], w[f"gamma_a{n}"], w[f"beta_a{n}"])
        fed = np.maximum(h @ w[f"inner{n}"], w[f"floor{n}"]) @ w[f"outer{n}"]
        x = _norm(fed + h + w[f"outer_bias{n}"], w[f"gamma_b{n}"], w[f"beta_b{n}"])
    return x[0]


def _norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON) * gamma + beta


@dataclass
class _Graph:
    dialect: str
    nodes: list[NodeProto] = field(default_factory=list)

    def add(self, operator: str, inputs: list[str], domain: str = "", **attributes) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], domain=domain, **attributes))
        return name

    def attend(self, q: str, k: str, v: str) -> str:
        if self.dialect == "cuda-flash":
            inputs = [q, k, v, "", "", "", "counts"]
            return self.add("Attention", inputs, q_num_heads=HEADS, kv_num_heads=HEADS)
        operator = "PackedMultiHeadAttention" if self.dialect == "cuda-packed" else "MultiHeadAttention"
        more = {"cuda-packed": ["", "places", "offsets"], "cuda-lengths": ["", "lengths"], "cuda-exact": []}
        return self.add(operator, [q, k, v, *more[self.dialect]], "com.microsoft", num_heads=HEADS)

    def norm(self, x: str, skip: str, layer: str, bias: str) -> str:
        inputs = [x, skip, f"gamma_{layer}", f"beta_{layer}", bias]
        return self.add("SkipLayerNormalization", inputs, "com.microsoft", epsilon=EPSILON)

    def first(self, x: str) -> str:
        """The tokens that the last layer works for."""
        if self.dialect == "cuda-packed":
            return self.add("Gather", [x, "firsts"])
        return self.add("Slice", [x, "zero", "one", "one"])

    def layer(self, x: str, n: int, last: bool) -> str:
        packed = self.dialect == "cuda-packed"
        residual = self.first(x) if last else x
        asking = x if packed else residual  # the packed kernel has as many queries as keys
        q = self.add("Add", [self.add("MatMul", [asking, f"query{n}"]), f"query_bias{n}"])
        k, v = (self.add("MatMul", [x, f"{name}{n}"]) for name in ("key", "value"))
        mixed = self.attend(q, k, v)
        mixed = self.first(mixed) if last and packed else mixed
        h = self.norm(self.add("MatMul", [mixed, f"mixed{n}"]), residual, f"a{n}", f"mixed_bias{n}")
        fed = self.add("Max", [self.add("MatMul", [h, f"inner{n}"]), f"floor{n}"])
        return self.norm(self.add("MatMul", [fed, f"outer{n}"]), h, f"b{n}", f"outer_bias{n}")


def model(w: Weights, dialect: str, precision: str) -> ModelProto:
    """The transformer as a graph."""
    graph = _Graph(dialect)
    gathered = []
    for name, table in (("ids", "genes"), ("values", "levels")):
        wide = graph.add("Cast", [name], to=TensorProto.INT32)
        gathered.append(graph.add("Gather", [table, wide]))
    if dialect == "cuda-flash":
        graph.nodes.append(helper.make_node("Cast", ["lengths"], ["counts"], to=TensorProto.INT64))
    x = graph.add("Add", gathered)
    for n in range(LAYERS):
        x = graph.layer(x, n, last=n == LAYERS - 1)
    if dialect != "cuda-packed":
        x = graph.add("Squeeze", [x, "one"])
    graph.nodes.append(helper.make_node("Cast", [x], ["cell"], to=TensorProto.FLOAT))
    output = helper.make_tensor_value_info("cell", TensorProto.FLOAT, ["cells", DIM])
    constants = [helper.make_tensor(name, TensorProto.INT64, [1], [value]) for name, value in (("zero", 0), ("one", 1))]
    initializers = [*constants, *(_tensor(name, array, TYPES[precision]) for name, array in w.items())]
    opsets = [helper.make_opsetid("", 24 if dialect == "cuda-flash" else 20), helper.make_opsetid("com.microsoft", 1)]
    made = helper.make_graph(graph.nodes, "embed", _inputs(dialect), [output], initializers)
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


def _inputs(dialect: str) -> list:
    both = ["tokens"] if dialect == "cuda-packed" else ["cells", "tokens"]
    told = [("ids", TensorProto.UINT16, both), ("values", TensorProto.UINT8, both)]
    if dialect == "cuda-packed":
        told += [
            ("offsets", TensorProto.INT32, ["cells_plus_1"]),
            ("places", TensorProto.INT32, ["cells", "longest"]),
            ("firsts", TensorProto.INT32, ["cells"]),
        ]
    elif dialect != "cuda-exact":
        told += [("lengths", TensorProto.INT32, ["cells"])]
    return [helper.make_tensor_value_info(*one) for one in told]


def _tensor(name: str, array: np.ndarray, kind: int):
    if kind == TensorProto.BFLOAT16:
        bits = array.view(np.uint32)
        raw = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()  # rounded to nearest even
    else:
        raw = array.astype(np.float16 if kind == TensorProto.FLOAT16 else np.float32).tobytes()
    return helper.make_tensor(name, kind, array.shape, raw, raw=True)
