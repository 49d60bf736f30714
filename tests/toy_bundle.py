"""A bundle small enough to see through, made by hand: no torch, no exporter, no weights worth the name.

The graph answers, for each cell, the mean over its true tokens of (id, value, id * value, length): padding
that leaks, rows that swap and lengths that are wrong all show. A labelled one adds ten times the batch label to the
length.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from scgpt_runtime.bundle import seal
from scgpt_runtime.cells import CellBlock, TokenBlock
from scgpt_runtime.golden import Golden
from scgpt_runtime.manifest import GraphRecord, Manifest, TensorSpec, TokenizerSettings
from scgpt_runtime.tokenizer import tokenize
from scgpt_runtime.vocab import Vocabulary

GENES = 60
SETTINGS = TokenizerSettings(cls_id=GENES + 1, pad_id=GENES, max_length=24, seed=7)
DIM = 4
BATCHES = ("day1", "day2", "day3")


def model(extra_input: str | None = None, scale: float = 1.0, external: str | None = None, *, labelled: bool = False):
    """The toy ``embed`` graph as an ONNX ModelProto."""
    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.UINT16, ["cells", "tokens"]),
        helper.make_tensor_value_info("values", TensorProto.UINT8, ["cells", "tokens"]),
        helper.make_tensor_value_info("lengths", TensorProto.INT32, ["cells"]),
    ]
    if labelled:
        extra_input = "batch"
    if extra_input:
        inputs.append(helper.make_tensor_value_info(extra_input, TensorProto.INT32, ["cells"]))
    output = helper.make_tensor_value_info("cell", TensorProto.FLOAT, ["cells", DIM])
    scales = numpy_helper.from_array(np.full(DIM, scale, np.float32), "scale")
    if external:
        keep_outside(scales, external)
    initializers = [
        scales,
        numpy_helper.from_array(np.array([1], np.int64), "one"),
        numpy_helper.from_array(np.array([2], np.int64), "two"),
        numpy_helper.from_array(np.array(0, np.int64), "zero0"),
        numpy_helper.from_array(np.array(1, np.int64), "one0"),
    ]
    node = helper.make_node
    nodes = [
        node("Cast", ["ids"], ["i"], to=TensorProto.FLOAT),
        node("Cast", ["values"], ["v"], to=TensorProto.FLOAT),
        node("Cast", ["lengths"], ["n"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["n", "one"], ["n1"]),
        node("Shape", ["ids"], ["shape"]),
        node("Gather", ["shape", "one0"], ["width"]),
        node("Range", ["zero0", "width", "one0"], ["positions"]),
        node("Cast", ["positions"], ["p"], to=TensorProto.FLOAT),
        node("Less", ["p", "n1"], ["real"]),
        node("Cast", ["real"], ["mask"], to=TensorProto.FLOAT),
        node("Mul", ["i", "v"], ["iv"]),
        node("Mul", ["i", "mask"], ["im"]),
        node("Mul", ["v", "mask"], ["vm"]),
        node("Mul", ["iv", "mask"], ["ivm"]),
        node("ReduceSum", ["im", "one"], ["si"]),
        node("ReduceSum", ["vm", "one"], ["sv"]),
        node("ReduceSum", ["ivm", "one"], ["siv"]),
        node("Mul", ["n1", "n1"], ["nn"]),
        node("Concat", ["si", "sv", "siv", "nn"], ["sums"], axis=1),
        node("Div", ["sums", "n1"], ["plain" if labelled else "means"]),
        *(_shifted_by_label(node) if labelled else []),
        node("Mul", ["means", "scale"], ["cell"]),
    ]
    graph = helper.make_graph(nodes, "embed", inputs, [output], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _shifted_by_label(node) -> list:
    """Nodes that add ten times the batch label to the last entry of each cell's answer."""
    ten = numpy_helper.from_array(np.array([0, 0, 0, 10], np.float32))
    return [
        node("Cast", ["batch"], ["b"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["b", "one"], ["b1"]),
        node("Constant", [], ["ten"], value=ten),
        node("Mul", ["b1", "ten"], ["shift"]),
        node("Add", ["plain", "shift"], ["means"]),
    ]


def keep_outside(tensor, location: str) -> None:
    """Say that a tensor's bytes lie in the file at ``location``."""
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(size))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def answer(tokens: TokenBlock, cell: int, label: int = 0) -> np.ndarray:
    """What the toy graph must say of one cell, of a batch label."""
    part = slice(tokens.offsets[cell], tokens.offsets[cell + 1])
    ids, values = tokens.ids[part].astype(np.float64), tokens.values[part].astype(np.float64)
    return np.array([ids.mean(), values.mean(), (ids * values).mean(), len(ids) + 10 * label])


def tokens_of(lengths, seed: int = 0, settings: TokenizerSettings = SETTINGS) -> TokenBlock:
    """Random tokens of given lengths; a length of 0 is a bad cell."""
    random = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = random.integers(0, GENES, offsets[-1]).astype(np.uint16)
    values = random.integers(1, 51, offsets[-1]).astype(np.uint8)
    starts = offsets[:-1][np.asarray(lengths) > 0]
    ids[starts], values[starts] = settings.cls_id, settings.cls_code
    faults = (np.asarray(lengths) == 0).astype(np.uint8)
    return TokenBlock(ids, values, offsets, faults, 0)


def golden(n_cells: int = 16, n_batches: int = 1) -> Golden:
    """Cells of whole numbers, some too long, with the tokens and vectors that they must become."""
    random = np.random.default_rng(1)
    sizes = random.integers(1, 40, n_cells)
    indptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    ids = np.concatenate([random.choice(GENES, size, replace=False) for size in sizes]).astype(np.uint16)
    data = random.integers(1, 9, len(ids)).astype(np.float32)
    block = CellBlock(indptr, ids.astype(np.int32), data, 0)
    tokens = tokenize(block, np.arange(GENES + 2), SETTINGS, GENES + 2)
    vectors = np.stack([answer(tokens, cell, cell % n_batches) for cell in range(n_cells)])
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return Golden(indptr, ids, data, tokens.ids, tokens.values, tokens.offsets, vectors)


def cells(n_cells: int, seed: int = 0, first_row: int = 0) -> CellBlock:
    """Random cells over the toy's genes."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 40, n_cells)
    indptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    ids = np.concatenate([[], *(random.choice(GENES, size, replace=False) for size in sizes)])
    return CellBlock(indptr, ids.astype(np.int32), random.integers(1, 9, len(ids)).astype(np.float32), first_row)


def split(block: CellBlock, rows: int) -> list[CellBlock]:
    """The same cells as consecutive blocks of at most ``rows``."""
    parts = []
    for start in range(0, block.n_cells, rows):
        borders = block.indptr[start : start + rows + 1]
        values = slice(borders[0], borders[-1])
        parts.append(CellBlock(borders - borders[0], block.indices[values], block.data[values], start))
    return parts


def manifest(**changes) -> Manifest:
    """A manifest that fits the toy graph."""
    both = ("cells", "tokens")
    inputs = (
        TensorSpec("ids", "uint16", both),
        TensorSpec("values", "uint8", both),
        TensorSpec("lengths", "int32", ("cells",)),
    )
    graph = GraphRecord(
        "embed", "fp32", "portable", "graphs/embed.onnx", 17, inputs, (TensorSpec("cell", "float32", ("cells", DIM)),)
    )
    base = Manifest(
        name="toy",
        args={},
        source={},
        weights=hashlib.sha256(b"toy").hexdigest(),
        dim=DIM,
        pooling="cls",
        tokenizer=SETTINGS,
        genes={},
        precisions=("fp32",),
        vector_ids={"fp32": "0" * 32},
        graphs=(graph,),
        parity=(),
        built_with={},
    )
    return replace(base, **changes)


def write(folder: Path, external: str | None = "weights.bin", *, labelled: bool = False, **changes) -> Path:
    """Seal a toy bundle in ``folder``."""
    (folder / "graphs").mkdir(parents=True)
    graph = model(external=external, labelled=labelled)
    (folder / "graphs" / "embed.onnx").write_bytes(graph.SerializeToString())
    if external:
        np.ones(DIM, np.float32).tofile(folder / "graphs" / "weights.bin")
    names = (*(f"G{i}" for i in range(GENES)), "<pad>", "<cls>")
    (folder / "vocab.json").write_text(Vocabulary(names).to_json(), encoding="utf-8")
    golden(n_batches=len(BATCHES) if labelled else 1).save(folder / "golden.npz")
    if labelled:
        (plain,) = manifest().graphs
        asks = replace(plain, inputs=(*plain.inputs, TensorSpec("batch", "int32", ("cells",))))
        changes = {"graphs": (asks,), "batches": BATCHES, **changes}
    seal(folder, manifest(**changes))
    return folder
