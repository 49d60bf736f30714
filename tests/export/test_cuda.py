"""Graphs for the CUDA provider answer like the reference, in as few kernels as they can."""

import functools

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from scgpt_export.cuda import cuda_graph, fits
from scgpt_export.graphs import EmbedGraph, TokensGraph
from scgpt_export.passes import sequence
from scgpt_export.store import WeightStore
from scgpt_export.trace import signature, trace
from scgpt_runtime.cells import TokenBlock
from scgpt_runtime.manifest import CUDA_DIALECTS
from scgpt_runtime.packing import packed
from scgpt_runtime.proof import LIMITS

from .graph_cases import CASES, LENGTHS, N_TOKENS, distance, make_inputs, make_model, make_settings, reference_of

PADDED = ("cuda-lengths", "cuda-flash", "cuda-exact")
ATTENTION = {
    "cuda-packed": "PackedMultiHeadAttention",
    "cuda-lengths": "MultiHeadAttention",
    "cuda-flash": "Attention",
    "cuda-exact": "MultiHeadAttention",
}
FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}


def shape_of(task, dialect, case):
    config = make_model(case).config
    return signature(
        task, dialect, dim=32, n_heads=4, n_genes=N_TOKENS, binned=True, n_classes=0, batch=config.norm == "dsbn",
        explicit_zero=False,
    )  # fmt: skip


@functools.cache
def traced(task, dialect, case):
    model, settings = make_model(case), make_settings(case)
    graph = (EmbedGraph if task == "embed" else TokensGraph)(model, settings)
    return trace(cuda_graph(graph, dialect), shape_of(task, dialect, case))


def written(folder, task, dialect, case, precision):
    """Path of a graph as an export would seal it."""
    model = traced(task, "cuda-packed" if dialect == "cuda-packed" else "cuda-lengths", case).clone()
    sequence(precision, dialect)(model)
    home = folder / precision / dialect
    home.mkdir(parents=True)
    return WeightStore(home).write(model, f"{task}.onnx")


def answered(path, inputs, dialect):
    """What a graph says of each of the padded cells; cells of one length together for the graph that wants that."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [spec.name for spec in session.get_inputs()]
    if dialect != "cuda-exact":
        return list(session.run(None, {name: inputs[name] for name in names})[0])
    alone = []
    for cell, length in enumerate(LENGTHS):
        feed = {name: inputs[name][[cell]] for name in names}
        alone.append(session.run(None, feed | {name: feed[name][:, :length] for name in ("ids", "values")})[0][0])
    return alone


@pytest.mark.parametrize("case", CASES)
def test_every_padded_dialect_answers_like_the_reference(case, tmp_path):
    model, settings = make_model(case), make_settings(case)
    inputs = make_inputs(settings)
    for dialect in (name for name in PADDED if fits(model.config, "embed", name)):
        for precision in ("fp32", "fp16"):
            path = written(tmp_path, "embed", dialect, case, precision)
            for cell, found in enumerate(answered(path, inputs, dialect)):
                expected = reference_of(model, settings, inputs, cell)["cell_emb"]
                assert found.dtype == np.float32
                assert distance(found, expected) < LIMITS[precision]
                error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
                assert error < np.sqrt(2 * LIMITS[precision])


@pytest.mark.parametrize("case", ["continuous", "w-pool"])
def test_hidden_states_are_those_of_the_reference(case, tmp_path):
    model, settings = make_model(case), make_settings(case)
    inputs = make_inputs(settings)
    for dialect in (name for name in PADDED if fits(model.config, "tokens", name)):
        path = written(tmp_path, "tokens", dialect, case, "fp32")
        for cell, found in enumerate(answered(path, inputs, dialect)):
            expected = reference_of(model, settings, inputs, cell)["hidden"]
            np.testing.assert_allclose(found[: LENGTHS[cell]], expected, rtol=0, atol=5e-6)


class SkipLayerNormalization(OpRun):
    """As ONNX Runtime documents it, in numpy."""

    op_domain = "com.microsoft"

    def _run(self, x, skip, gamma, beta, bias, epsilon=None):
        total = x + skip + bias
        centred = total - total.mean(-1, keepdims=True)
        return ((centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon) * gamma + beta).astype(x.dtype),)


class PackedMultiHeadAttention(OpRun):
    """As ONNX Runtime documents it: tokens go to their places in a rectangle, rows attend to their own tokens."""

    op_domain = "com.microsoft"

    def _run(self, query, key, value, bias, places, offsets, num_heads=None):
        assert bias is None
        rows, longest = places.shape
        real = places.ravel()[: len(query)]
        assert sorted(places.ravel()) == list(range(rows * longest))
        q, k, v = (
            rectangle(x, real, rows * longest).reshape(rows, longest, num_heads, -1) for x in (query, key, value)
        )
        mixed = np.zeros_like(q)
        for row, length in enumerate(np.diff(offsets)):
            scores = np.einsum("qhd,khd->hqk", q[row, :length], k[row, :length]) / np.sqrt(q.shape[-1])
            weights = np.exp(scores - scores.max(-1, keepdims=True, initial=-np.inf))
            weights /= weights.sum(-1, keepdims=True)
            mixed[row, :length] = np.einsum("hqk,khd->qhd", weights, v[row, :length])
        return (mixed.reshape(rows * longest, -1)[real].astype(query.dtype),)


def rectangle(x, places, size):
    laid = np.full((size, x.shape[-1]), np.nan, x.dtype)  # padding that is read shows
    laid[places] = x
    return laid


def ragged(inputs, settings):
    """The padded cells as ragged tokens, one without tokens among them."""
    lengths = [LENGTHS[0], 0, *LENGTHS[1:]]
    rows = [0, 0, 1, 2]
    ids, values = (
        np.concatenate([inputs[name][row, :length] for row, length in zip(rows, lengths, strict=True)])
        for name in ("ids", "values")
    )
    return TokenBlock(ids, values, np.cumsum([0, *lengths]), np.zeros(len(lengths), np.uint8), 0), rows


def emulated(path):
    return ReferenceEvaluator(str(path), new_ops=[SkipLayerNormalization, PackedMultiHeadAttention])


@pytest.mark.parametrize("case", ["continuous", "category", "scaling"])
def test_packed_cells_answer_like_the_reference(case, tmp_path):
    model, settings = make_model(case), make_settings(case)
    inputs = make_inputs(settings)
    tokens, rows = ragged(inputs, settings)
    graph = emulated(written(tmp_path, "embed", "cuda-packed", case, "fp32"))
    (batch,) = packed(tokens, settings, 128, 12)
    (cells,) = graph.run(None, batch.arrays)
    assert len(cells) == len(batch.firsts) > len(batch.cells) == len(LENGTHS)
    for place, cell in enumerate(batch.cells):
        expected = reference_of(model, settings, inputs, rows[cell])["cell_emb"]
        np.testing.assert_allclose(cells[place], expected, rtol=0, atol=1e-5)


def test_an_empty_cell_among_others_changes_nothing(tmp_path):
    settings = make_settings("continuous")
    inputs = make_inputs(settings)
    tokens, rows = ragged(inputs, settings)
    graph = emulated(written(tmp_path, "embed", "cuda-packed", "continuous", "fp32"))
    lengths = np.diff(tokens.offsets)
    real = np.arange(lengths.max()) < lengths[:, None]
    feed = {
        "ids": tokens.ids,
        "values": tokens.values,
        "offsets": tokens.offsets.astype(np.int32),
        "places": np.concatenate([np.flatnonzero(real), np.flatnonzero(~real)]).reshape(real.shape).astype(np.int32),
        "firsts": np.where(lengths > 0, tokens.offsets[:-1], 0).astype(np.int32),
    }
    (cells,) = graph.run(None, feed)
    model = make_model("continuous")
    for place in np.flatnonzero(lengths):
        expected = reference_of(model, settings, inputs, rows[place])["cell_emb"]
        np.testing.assert_allclose(cells[place], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("dialect", CUDA_DIALECTS)
def test_a_layer_is_eleven_kernels_and_nothing_is_computed_from_shapes(dialect, precision, tmp_path):
    before = ["MatMul", "Add", "MatMul", "MatMul", ATTENTION[dialect]]
    after = ["MatMul", "SkipLayerNormalization", "MatMul", "Max", "MatMul", "SkipLayerNormalization"]
    tables = ["Cast", "Gather", "Cast", "Gather", "Add"]
    start = ["Cast", *tables] if dialect == "cuda-flash" else tables  # its lengths are int64
    if dialect == "cuda-packed":
        wanted = {"embed": [*start, *before, *after, *before, "Gather", "Gather", *after, "Cast"]}
    else:
        wanted = {
            "embed": [*start, *before, *after, "Slice", *before, *after, "Squeeze", "Cast"],
            "tokens": [*start, *before, *after, *before, *after, "Cast"],
        }
    for task, kinds in wanted.items():
        path = written(tmp_path / task, task, dialect, "continuous", precision)
        onnx.checker.check_model(str(path))
        found = onnx.load(path, load_external_data=False)
        assert [node.op_type for node in found.graph.node] == kinds
        inputs = [(spec.name, spec.type.tensor_type.elem_type) for spec in found.graph.input]
        wide = {name: onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind)) for name, kind in dtypes(task, dialect)}
        assert inputs == list(wide.items())
        assert [spec.type.tensor_type.elem_type for spec in found.graph.output] == [onnx.TensorProto.FLOAT]
        domains = {entry.domain: entry.version for entry in found.opset_import}
        assert domains == {"": 24 if dialect == "cuda-flash" else 20, "com.microsoft": 1}


def dtypes(task, dialect):
    return [(spec.name, spec.dtype) for spec in shape_of(task, dialect, "continuous").inputs]


@pytest.mark.parametrize("case", CASES)
def test_shapes_are_computed_by_the_pools_alone(case):
    kinds = {node.op_type for node in traced("embed", "cuda-lengths", case).graph}
    assert ("Shape" in kinds) == ("pool" in case)
    assert "BatchNormalization" not in kinds


def test_packed_and_exact_are_for_models_that_they_can_answer():
    told = {case: [name for name in CUDA_DIALECTS if fits(make_model(case).config, "embed", name)] for case in CASES}
    assert told["continuous"] == told["category"] == told["scaling"] == list(CUDA_DIALECTS)
    assert told["dsbn"] == told["batchnorm"] == list(PADDED)
    assert told["avg-pool"] == told["w-pool"] == ["cuda-lengths", "cuda-flash"]
    config = make_model("continuous").config
    assert not fits(config, "tokens", "cuda-packed")


def test_a_pool_that_reads_lengths_cannot_lose_them():
    model = traced("embed", "cuda-lengths", "avg-pool").clone()
    with pytest.raises(Exception, match="Reroute"):
        sequence("fp32", "cuda-exact")(model)


@pytest.mark.parametrize("dialect", CUDA_DIALECTS)
def test_every_float_inside_has_the_precision_and_norms_keep_their_epsilon(dialect, tmp_path):
    for precision, kind in (("fp16", onnx.TensorProto.FLOAT16), ("bf16", onnx.TensorProto.BFLOAT16)):
        found = onnx.load(written(tmp_path, "embed", dialect, "continuous", precision), load_external_data=False)
        assert {tensor.data_type for tensor in found.graph.initializer} & FLOATS == {kind}
        norms = [node for node in found.graph.node if node.op_type == "SkipLayerNormalization"]
        assert {round(node.attribute[0].f, 9) for node in norms} == {1e-5}
        assert all(len(node.input) == 5 for node in norms)


def test_weights_rounded_to_bf16_answer_within_its_limit(tmp_path):
    """No processor has kernels for it, so its weights are widened again."""
    model, settings = make_model("continuous"), make_settings("continuous")
    inputs = make_inputs(settings)
    path = written(tmp_path, "embed", "cuda-lengths", "continuous", "bf16")
    found = onnx.load(path)
    for tensor in found.graph.initializer:
        if tensor.data_type == onnx.TensorProto.BFLOAT16:
            wide = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    onnx.save(found, path.with_name("wide.onnx"))
    for cell, vector in enumerate(answered(path.with_name("wide.onnx"), inputs, "cuda-lengths")):
        away = distance(vector, reference_of(model, settings, inputs, cell)["cell_emb"])
        assert 1e-9 < away < LIMITS["bf16"]


@pytest.mark.parametrize("dialect", CUDA_DIALECTS)
def test_graphs_tell_nothing_of_the_machine_and_are_the_same_bytes_again(dialect, tmp_path):
    path = written(tmp_path / "one", "embed", dialect, "continuous", "fp16")
    raw = path.read_bytes()
    for told in (b".py", b"torch", b"pkg.", b"forward", b"layers", b"/work", b"/tmp"):
        assert told not in raw
    traced.cache_clear()
    again = written(tmp_path / "two", "embed", dialect, "continuous", "fp16")
    assert again.read_bytes() == raw
    assert (again.parent / "weights.float16.bin").read_bytes() == (path.parent / "weights.float16.bin").read_bytes()


def test_dialects_share_their_weights(tmp_path):
    store = WeightStore(tmp_path)
    sizes = []
    for dialect in PADDED:
        model = traced("embed", "cuda-lengths", "continuous").clone()
        sequence("fp16", dialect)(model)
        store.write(model, f"{dialect}.onnx")
        sizes.append((tmp_path / "weights.float16.bin").stat().st_size)
    assert len(set(sizes)) == 1
