"""Graphs in every precision answer like the reference, carry nothing of the machine, and never couple cells."""

import functools
import re

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from scgpt_export.graphs import ClassifyGraph, EmbedGraph, ExpressionGraph, GenesGraph, MvcGraph, TokensGraph
from scgpt_export.passes import sequence
from scgpt_export.quantize import LARGEST_CODE, LARGEST_WEIGHT, quantize_weight
from scgpt_export.rewrites import rewrite
from scgpt_export.store import WeightStore
from scgpt_export.trace import OPSET, signature, trace
from scgpt_runtime.proof import LIMITS

from .graph_cases import CASES, CLS, LENGTHS, N_TOKENS, distance, make_inputs, make_model, make_settings, reference_of

PRECISIONS = ("fp32", "fp16", "int8")


def trace_afresh(task, case):
    model, settings = make_model(case), make_settings(case)
    if task in ("embed", "tokens"):
        graph = (EmbedGraph if task == "embed" else TokensGraph)(model, settings)
        rewrite(graph)
    else:
        graph = {
            "classify": lambda: ClassifyGraph(model.cls_decoder),
            "expression": lambda: ExpressionGraph(model),
            "genes": lambda: GenesGraph(model),
            "mvc": lambda: MvcGraph(model, model.mvc_decoder),
        }[task]()
        rewrite(graph)
    batch = model.config.norm == "dsbn" if task in ("embed", "tokens") else model.config.batch_labels
    shape = signature(
        task, dim=32, n_heads=4, n_genes=N_TOKENS, binned=True, n_classes=model.config.n_cls, batch=batch,
        explicit_zero=model.config.explicit_zero,
    )  # fmt: skip
    return model, settings, trace(graph, shape), shape


traced = functools.cache(trace_afresh)


def opened(model, folder, precision, name="graph.onnx"):
    copy = model.clone()
    sequence(precision)(copy)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    path = WeightStore(folder).write(copy, name)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("case", CASES)
def test_embed_is_within_the_limit_of_every_precision(case, tmp_path):
    model, settings, graph, shape = traced("embed", case)
    inputs = make_inputs(settings)
    for precision in PRECISIONS:
        folder = tmp_path / precision
        folder.mkdir()
        session = opened(graph, folder, precision)
        assert [spec.name for spec in session.get_inputs()] == [spec.name for spec in shape.inputs]
        (cells,) = session.run(["cell"], {spec.name: inputs[spec.name] for spec in shape.inputs})
        assert cells.dtype == np.float32
        for cell in range(len(LENGTHS)):
            expected = reference_of(model, settings, inputs, cell)["cell_emb"]
            # Values up to 50 multiply the gene's vector here, which int8 does not stand: export would leave it out.
            limit = 5e-2 if (case, precision) == ("scaling", "int8") else LIMITS[precision]
            assert distance(cells[cell], expected) < limit
            # The length counts too: heads read the vector as it is.
            error = np.linalg.norm(cells[cell] - expected) / np.linalg.norm(expected)
            assert error < np.sqrt(2 * limit)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", ["heads", "dsbn"])
def test_heads_answer_like_the_reference(case, precision, tmp_path):
    tolerance = {"fp32": 1e-5, "fp16": 1e-2, "int8": 1e-1}[precision]
    model = make_model(case)
    names = {"classify": "cls_output", "expression": "mlm_output", "mvc": "mvc_output"}
    tasks = ["expression", *(["classify", "mvc"] if case == "heads" else [])]
    for task in tasks:
        model, settings, graph, shape = traced(task, case)
        inputs = make_inputs(settings)
        (tmp_path / task).mkdir()
        session = opened(graph, tmp_path / task, precision)
        for cell, length in enumerate(LENGTHS):
            expected = reference_of(model, settings, inputs, cell)
            known = {
                "cell": expected["cell_emb"][None],
                "hidden": expected["hidden"][None],
                "ids": inputs["ids"][[cell], :length],
                "batch": inputs["batch"][[cell]],
            }
            answers = session.run(None, {spec.name: known[spec.name] for spec in shape.inputs})
            assert len(answers) == len(shape.outputs)
            want = expected[names[task]]
            assert np.abs(answers[0][0] - want).max() <= tolerance * np.abs(want).max()
            if task == "expression" and case == "heads":
                np.testing.assert_allclose(answers[1][0], expected["mlm_zero_probs"], atol=tolerance)


@pytest.mark.parametrize("case", ["continuous", "batchnorm", "scaling"])
def test_genes_are_the_rows_of_the_gene_encoder_with_its_norm(case, tmp_path):
    model, _, graph, shape = traced("genes", case)
    ids = np.array([CLS, 0, 7, 7, N_TOKENS - 1, 31], np.uint16)
    with torch.no_grad():
        expected = model.encoder(torch.from_numpy(ids.astype(np.int64))).numpy()
    assert [(spec.name, spec.shape) for spec in (*shape.inputs, *shape.outputs)] == [
        ("ids", ("genes",)),
        ("gene", ("genes", 32)),
    ]
    for precision, limit in {"fp32": 1e-6, "fp16": 5e-3}.items():
        (tmp_path / precision).mkdir()
        (found,) = opened(graph, tmp_path / precision, precision).run(["gene"], {"ids": ids})
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=limit)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_cell_does_not_depend_on_its_company(precision, tmp_path):
    _, settings, graph, _ = traced("embed", "continuous")
    inputs = make_inputs(settings)
    session = opened(graph, tmp_path, precision)
    feed = {name: inputs[name] for name in ("ids", "values", "lengths")}
    (together,) = session.run(None, feed)
    # Company whose activations are far larger would move a scale taken over the whole batch.
    for cell, length in enumerate(LENGTHS):
        alone = {"ids": feed["ids"][[cell], :length], "values": feed["values"][[cell], :length]}
        (single,) = session.run(None, {**alone, "lengths": feed["lengths"][[cell]]})
        assert distance(single[0], together[cell]) < {"fp32": 1e-12, "fp16": 1e-6, "int8": 1e-6}[precision]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_graphs_carry_nothing_but_the_graph(precision, tmp_path):
    _, _, graph, _ = traced("embed", "continuous")
    opened(graph, tmp_path, precision)
    raw = (tmp_path / "graph.onnx").read_bytes()
    for told in (rb"/\w{3,}", rb"\.py\b", b"torch", rb"pkg\.", b"forward", b"layers", b"20[0-9][0-9]-"):
        assert not re.findall(told, raw), told
    found = onnx.load(tmp_path / "graph.onnx", load_external_data=False)
    assert [(entry.domain, entry.version) for entry in found.opset_import] == [("", OPSET)]
    assert not found.producer_name
    assert not found.metadata_props
    assert not any(node.doc_string or node.metadata_props for node in found.graph.node)
    onnx.checker.check_model(str(tmp_path / "graph.onnx"), full_check=True)


def test_every_linear_layer_is_one_product_by_a_stored_weight():
    _, _, graph, _ = traced("embed", "continuous")
    copy = graph.clone()
    sequence("int8")(copy)
    kinds = [node.op_type for node in copy.graph]
    assert kinds.count("MatMulInteger") == 6 * 2  # queries, keys, values, output, two of the feed-forward
    assert kinds.count("MatMul") == 2 * 2  # scores and mixing, which have no weight
    for node in graph.graph:
        assert not (node.op_type in ("Slice", "Transpose") and node.inputs[0].is_initializer())


def test_tracing_twice_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        opened(trace_afresh("tokens", "heads")[2], tmp_path / name, "int8")
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(files) >= 2
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_equal_weights_of_two_graphs_are_stored_once(tmp_path):
    store = WeightStore(tmp_path)
    for task in ("embed", "tokens"):
        model = traced(task, "continuous")[2].clone()
        sequence("fp32")(model)
        store.write(model, f"{task}.onnx")
        if task == "embed":
            alone = (tmp_path / "weights.float32.bin").stat().st_size
    assert (tmp_path / "weights.float32.bin").stat().st_size == alone


def test_weight_quantisation_is_per_output_channel():
    random = np.random.default_rng(0)
    weight = (random.normal(size=(64, 8)) * np.logspace(-3, 3, 8)).astype(np.float32)
    weight[:, 3] = 0
    integers, scale = quantize_weight(weight)
    assert integers.dtype == np.int8
    assert np.abs(integers).max() == LARGEST_WEIGHT
    assert (np.abs(integers * scale - weight) <= scale * 0.5001).all()


def test_no_pair_of_products_passes_16_bits():
    """Processors with AVX2 but without VNNI saturate there, and would give another vector than this one."""
    assert np.iinfo(np.int16).max >= 2 * LARGEST_CODE * LARGEST_WEIGHT


def test_a_weight_beyond_float16_becomes_infinite_rather_than_wrong(tmp_path):
    graph = traced("classify", "heads")[2].clone()
    weight = next(v for v in graph.graph.initializers.values() if v.const_value.numpy().ndim == 2)
    weight.const_value = ir.tensor(weight.const_value.numpy() * np.float32(1e9), name=weight.name)
    session = opened(graph, tmp_path, "fp16")
    (logits,) = session.run(None, {"cell": np.ones((1, 32), np.float32)})
    assert not np.isfinite(logits).all()
