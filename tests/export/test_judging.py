"""Which dialects a precision is sealed in, with figures or on the promise of a proof."""

from dataclasses import replace

import numpy as np
import pytest

from scgpt_export import judging, parity
from scgpt_export.build import ExportOptions, assemble, check
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.errors import OptionError
from scgpt_runtime.manifest import CUDA_DIALECTS
from scgpt_runtime.proof import LIMITS

MEASURED = {"cuda-lengths", "cuda-flash", "cuda-exact"}
OPTIONS = ExportOptions(("bf16", "fp32", "fp16"))


@pytest.fixture(scope="module")
def prepared(small_prepared):
    return small_prepared()


@pytest.fixture(scope="module")
def sealed(prepared, tmp_path_factory):
    """The bundle, and what was said while it was made."""
    said = []
    output = tmp_path_factory.mktemp("judged") / "tiny"
    assemble(prepared, output, OPTIONS, said.append)
    return Bundle.open(output), said


def dialects(bundle, task, precision):
    return {graph.dialect for graph in bundle.manifest.graphs if (graph.task, graph.precision) == (task, precision)}


def test_fp16_has_all_dialects_and_bf16_those_with_kernels(sealed):
    bundle, _ = sealed
    assert dialects(bundle, "embed", "fp16") == {"portable", *CUDA_DIALECTS}
    assert dialects(bundle, "tokens", "fp16") == {"portable", *MEASURED}
    assert dialects(bundle, "embed", "bf16") == dialects(bundle, "tokens", "bf16") == MEASURED
    assert dialects(bundle, "embed", "fp32") == {"portable"}


def test_what_a_processor_can_run_has_figures_of_its_own(sealed):
    bundle, said = sealed
    golden = bundle.golden()
    found = [record for record in bundle.manifest.parity if record.dialect != "portable"]
    assert {(record.task, record.dialect) for record in found} == {
        (task, name) for task in ("embed", "tokens") for name in MEASURED
    }
    for record in found:
        assert record.precision == "fp16"
        assert 0 < record.worst <= record.limit == LIMITS["fp16"]
        assert record.cells == (golden.n_cells if record.task == "embed" else np.count_nonzero(golden.lengths <= 256))
    assert any("fp16 for cuda-flash embed: 1-cosine" in line for line in said)


def test_what_was_not_measured_is_said_and_comes_last(sealed):
    bundle, said = sealed
    assert bundle.manifest.precisions == ("fp32", "fp16", "bf16")
    assert bundle.manifest.unmeasured == ("bf16",)
    assert set(bundle.manifest.vector_ids) == {"fp32", "fp16", "bf16"}
    unmeasured = [line.partition(":")[0] for line in said if "not measured" in line]
    assert unmeasured == [
        "parity bf16 for cuda-lengths",
        "parity bf16 for cuda-flash",
        "parity bf16 for cuda-exact",
        "parity fp16 for cuda-packed",
    ]


def test_heads_of_bf16_are_those_of_fp32(sealed):
    bundle, _ = sealed
    for task in ("expression", "mvc", "genes"):
        assert bundle.graph(task, "bf16").path == bundle.graph(task, "fp32").path
    assert not list((bundle.path / "graphs").glob("*.bf16.portable.onnx"))


def test_inputs_in_the_manifest_are_those_of_the_graphs(sealed):
    bundle, _ = sealed
    names = {
        dialect: [spec.name for spec in bundle.graph("embed", "fp16", dialect).inputs] for dialect in CUDA_DIALECTS
    }
    assert names["cuda-flash"] == names["cuda-lengths"] == ["ids", "values", "lengths"]
    assert names["cuda-exact"] == ["ids", "values"]
    assert names["cuda-packed"] == ["ids", "values", "offsets", "places", "firsts"]
    assert {dialect: bundle.graph("embed", "fp16", dialect).opset for dialect in CUDA_DIALECTS} == {
        "cuda-packed": 20, "cuda-lengths": 20, "cuda-flash": 24, "cuda-exact": 20,
    }  # fmt: skip


def test_a_dialect_that_misses_its_limit_is_left_out_alone(prepared, tmp_path, monkeypatch):
    def measure(graphs, tokens, settings, expected, n_batches, modalities):
        found = parity.measure(graphs, tokens, settings, expected, n_batches)
        return [replace(record, worst=0.1) for record in found] if graphs.dialect == "cuda-flash" else found

    monkeypatch.setattr(judging, "measure", measure)
    report = assemble(prepared, tmp_path / "b", ExportOptions(("fp32", "fp16")), lambda line: None)
    assert {record.dialect for record in report.left_out} == {"cuda-flash"}
    bundle = Bundle.open(tmp_path / "b")
    assert bundle.manifest.precisions == ("fp32", "fp16")
    assert dialects(bundle, "embed", "fp16") == {"portable", "cuda-packed", "cuda-lengths", "cuda-exact"}


def test_without_its_portable_graph_a_precision_has_no_dialects(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "LIMITS", {**LIMITS, "fp16": 1e-9})
    report = assemble(prepared, tmp_path / "b", ExportOptions(("fp32", "fp16")), lambda line: None)
    assert report.manifest.precisions == ("fp32",)
    assert not list((tmp_path / "b" / "graphs").glob("*fp16*"))


@pytest.mark.parametrize("precisions", [("bf16",), ("fp16", "bf16")])
def test_bf16_is_sealed_beside_fp32_only(precisions, tmp_path):
    with pytest.raises(OptionError, match="its heads are those of fp32: add fp32"):
        check(tmp_path / "b", ExportOptions(precisions))


def test_bf16_goes_where_fp32_goes(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "LIMITS", {**LIMITS, "fp32": 1e-20})
    report = assemble(prepared, tmp_path / "b", ExportOptions(("fp32", "fp16", "bf16")), lambda line: None)
    assert report.manifest.precisions == ("fp16",)
    assert not list((tmp_path / "b" / "graphs").glob("*bf16*"))
