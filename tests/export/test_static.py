"""Static int8: ranges from real cells, a graph of its own, an id of its own."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

from scgpt_export import parity
from scgpt_export.build import ExportOptions, assemble, export, prepare
from scgpt_export.calibration import CalibrationCells, calibration_tokens, observe, record
from scgpt_export.checkpoint import load
from scgpt_export.quantize import LARGEST_CODE, LARGEST_WEIGHT
from scgpt_export.static import step_of
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import CellsError, GenesError, OptionError
from scgpt_runtime.manifest import STATIC
from scgpt_runtime.proof import LIMITS, one_minus_cosine
from scgpt_runtime.providers import ProviderChoice
from scgpt_runtime.session import Session
from scgpt_runtime.vocab import is_special

QUIET = {"say": lambda line: None}
CPU = ProviderChoice("cpu", "int8", "int8", "portable", 1, 1, "a test")


@pytest.fixture(scope="module")
def checkpoint(golden_files):
    return load(golden_files / "small_checkpoint")


def cells_of(checkpoint, seed: int = 0, n_cells: int = 12) -> CalibrationCells:
    random = np.random.default_rng(seed)
    genes = [name for name in checkpoint.tokens if not is_special(name)]
    lengths = random.integers(5, 90, n_cells)
    indices = np.concatenate([random.permutation(len(genes))[:n] for n in lengths]).astype(np.int32)
    counts = (1 + random.negative_binomial(1, 0.2, len(indices))).astype(np.float32)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return CalibrationCells(CellBlock(indptr, indices, counts, 0), {"index": genes}, f"{seed:064x}")


@pytest.fixture(scope="module")
def options(checkpoint) -> ExportOptions:
    return ExportOptions(("fp32", "int8"), calibration=cells_of(checkpoint))


@pytest.fixture(scope="module")
def prepared(checkpoint, options):
    return prepare(checkpoint, options, lambda line: None)


@pytest.fixture(scope="module")
def bundle(prepared, options, tmp_path_factory) -> Bundle:
    output = tmp_path_factory.mktemp("static") / "tiny"
    assemble(prepared, output, options, **QUIET)
    return Bundle.open(output)


def ranges_of(prepared, cells, folder):
    folder.mkdir()
    tokens = calibration_tokens(cells, prepared.vocabulary, prepared.settings, ())
    ranges = observe(prepared.traced["embed", "portable"], tokens, prepared.settings, 0, folder)
    return ranges, record(cells, tokens, ranges)


def graph_of(bundle: Bundle) -> onnx.ModelProto:
    return onnx.load(bundle.file(bundle.graph("embed", "int8", "openvino").path))


def vectors_of(bundle: Bundle, dialect: str, rows) -> np.ndarray:
    """Golden cells in one padded batch."""
    golden, settings = bundle.golden(), bundle.manifest.tokenizer
    lengths = golden.lengths[rows]
    ids = np.full((len(rows), lengths.max()), settings.pad_id, golden.ids.dtype)
    values = np.full(ids.shape, settings.pad_code, golden.values.dtype)
    for place, row in enumerate(rows):
        inside = slice(golden.offsets[row], golden.offsets[row + 1])
        ids[place, : lengths[place]], values[place, : lengths[place]] = golden.ids[inside], golden.values[inside]
    session = Session.open(bundle.file(bundle.graph("embed", "int8", dialect).path), CPU)
    return session.feed({"ids": ids, "values": values, "lengths": lengths})["cell"]


def test_the_static_graph_is_sealed_beside_the_dynamic_one_with_a_figure_and_an_id_of_its_own(bundle, tiny_bundle):
    manifest = bundle.manifest
    (record,) = [found for found in manifest.parity if found.dialect == "openvino"]
    assert (record.task, record.precision, record.measure) == ("embed", "int8", "1-cosine")
    assert 1e-7 < record.worst <= record.limit == LIMITS["int8"]
    assert manifest.precisions == ("fp32", "int8")
    assert set(manifest.vector_ids) == {"fp32", "int8", STATIC}
    assert len(set(manifest.vector_ids.values())) == 3
    plain = Bundle.open(tiny_bundle).manifest
    assert plain.calibration == ()
    assert plain.vector_ids["int8"] == manifest.vector_ids["int8"]
    assert (manifest.calibration[0].cells, manifest.calibration[0].sha256) == (12, "0" * 64)


def test_the_weights_are_those_of_the_dynamic_graph_and_stored_once(bundle, tiny_bundle):
    sizes = [(path / "graphs/weights.int8.bin").stat().st_size for path in (bundle.path, tiny_bundle)]
    assert sizes[0] == sizes[1]
    folder = bundle.path / "graphs"
    integers = [
        onnx.numpy_helper.to_array(found, str(folder))
        for found in graph_of(bundle).graph.initializer
        if found.data_type == onnx.TensorProto.INT8
    ]
    assert integers
    assert max(np.abs(found.astype(int)).max() for found in integers) <= LARGEST_WEIGHT


def test_layers_for_all_tokens_are_quantised_and_those_for_cls_alone_are_not(bundle):
    model = graph_of(bundle)
    assert {node.domain for node in model.graph.node} == {""}
    assert [found.version for found in model.opset_import] == [20]
    made_by = {name: node for node in model.graph.node for name in node.output}
    floats = {found.name for found in model.graph.initializer if found.data_type == onnx.TensorProto.FLOAT}
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    quantised = [
        node for node in products if node.input[1] in made_by and made_by[node.input[1]].op_type == "DequantizeLinear"
    ]
    for node in quantised:
        assert made_by[node.input[0]].op_type == "DequantizeLinear"
    assert len(quantised) == 6 + 2  # the last layer needs keys and values of all tokens, and no more
    assert len([node for node in products if node.input[1] in floats]) == 4


def test_without_fp16_and_bf16_nothing_is_traced_for_the_gpu(prepared):
    assert {dialect for _, dialect in prepared.traced} == {"portable"}


def test_calibrating_and_sealing_again_gives_the_same_bytes(prepared, options, bundle, tmp_path):
    assert ranges_of(prepared, options.calibration, tmp_path / "ranges") == (prepared.ranges, *prepared.calibration)
    assemble(prepared, tmp_path / "tiny", options, **QUIET)
    for path in sorted(bundle.path.rglob("*")):
        if path.is_file():
            assert (tmp_path / "tiny" / path.relative_to(bundle.path)).read_bytes() == path.read_bytes(), path


def test_ranges_are_those_of_the_cells_whatever_their_order(checkpoint, prepared, options, tmp_path):
    block = options.calibration.block
    halves = []
    for rows in (range(6), range(6, 12)):
        inside = slice(block.indptr[rows[0]], block.indptr[rows[-1] + 1])
        indptr = block.indptr[rows[0] : rows[-1] + 2] - block.indptr[rows[0]]
        half = replace(options.calibration, block=CellBlock(indptr, block.indices[inside], block.data[inside], 0))
        halves.append(ranges_of(prepared, half, tmp_path / str(rows[0]))[0])
    joined = tuple((min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(*halves, strict=True))
    assert joined == prepared.ranges
    assert all(low < high for low, high in joined)


def test_other_cells_give_another_id_to_static_vectors_alone(checkpoint, prepared, bundle, tmp_path):
    _, calibration = ranges_of(prepared, cells_of(checkpoint, seed=1), tmp_path / "ranges")
    assert calibration.ranges != prepared.calibration[0].ranges
    manifest, other = bundle.manifest, replace(bundle.manifest, calibration=(calibration,))
    assert manifest.arithmetic(STATIC) != other.arithmetic(STATIC)
    assert manifest.arithmetic("int8") == other.arithmetic("int8") == "int8"


def test_no_cell_changes_another(bundle):
    rows = np.arange(bundle.golden().n_cells)
    together = vectors_of(bundle, "openvino", rows)
    alone = np.concatenate([vectors_of(bundle, "openvino", rows[[row]]) for row in rows])
    assert one_minus_cosine(together, alone).max() < 1e-5


def test_a_step_holds_zero_exactly_and_covers_the_range():
    for low, high in ((-3.0, 5.0), (0.5, 2.0), (-4.0, -1.0), (0.0, 0.0), (-1e-20, 1e20)):
        scale, zero = step_of((low, high))
        assert scale.dtype == np.float32
        assert zero.dtype == np.uint8
        codes = np.clip(np.rint(np.array([0.0, low, high]) / scale) + zero, 0, LARGEST_CODE)
        back = (codes - int(zero)) * float(scale)
        assert back[0] == 0
        assert np.abs(back[1:] - [low, high]).max() <= float(scale)


def test_static_is_not_sealed_where_dynamic_misses_its_limit(prepared, options, tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "LIMITS", {**LIMITS, "int8": 1e-9})
    report = assemble(prepared, tmp_path / "b", options, lambda line: None)
    assert report.manifest.precisions == ("fp32",)
    assert report.manifest.calibration == ()
    assert {found.dialect for found in report.left_out} == {"portable"}


def test_static_alone_is_left_out_with_its_figure(prepared, options, tmp_path):
    wide = replace(prepared, ranges=tuple((100 * low - 1e3, 100 * high + 1e3) for low, high in prepared.ranges))
    report = assemble(wide, tmp_path / "b", options, lambda line: None)
    assert report.manifest.precisions == ("fp32", "int8")
    assert [found.dialect for found in report.left_out] == ["openvino"]
    assert STATIC not in report.manifest.vector_ids


def test_what_cannot_calibrate_is_said(checkpoint, options, tmp_path):
    with pytest.raises(OptionError, match="Calibration cells are for int8, and the precisions are fp32"):
        export(checkpoint, tmp_path / "b", replace(options, precisions=("fp32",)))
    cells = options.calibration
    unknown = replace(cells, gene_names={"index": [f"none{i}" for i in range(len(cells.gene_names["index"]))]})
    with pytest.raises(GenesError):
        export(checkpoint, tmp_path / "b", replace(options, calibration=unknown), **QUIET)
    zeros = replace(cells, block=replace(cells.block, data=np.zeros_like(cells.block.data)))
    with pytest.raises(CellsError, match="None of the 12 calibration cells"):
        export(checkpoint, tmp_path / "b", replace(options, calibration=zeros), **QUIET)
    assert list(tmp_path.iterdir()) == []
