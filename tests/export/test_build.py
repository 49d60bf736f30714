"""What an export seals, what it leaves out, and what it refuses."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from scgpt_export import parity
from scgpt_export.build import ExportOptions, assemble, export
from scgpt_export.checkpoint import load
from scgpt_export.provenance import weights_digest
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.errors import OptionError, OutputError, ParityError
from scgpt_runtime.proof import LIMITS
from scgpt_runtime.tokenizer import tokenize


@pytest.fixture(scope="module")
def checkpoint(golden_files):
    return load(golden_files / "small_checkpoint")


@pytest.fixture(scope="module")
def prepared(small_prepared):
    return small_prepared()


def test_every_graph_is_within_its_limit_and_says_who_measured(tiny_bundle):
    manifest = Bundle.open(tiny_bundle).manifest
    assert manifest.precisions[0] == "fp32"
    assert set(manifest.precisions) == {"fp32", "fp16", "int8"}
    assert {(r.task, r.precision) for r in manifest.parity} == {
        (task, precision)
        for task in ("embed", "tokens", "attention", "genes", "expression", "mvc")
        for precision in manifest.precisions
        if (task, precision) != ("attention", "int8")
    }
    assert {(g.task, g.precision) for g in manifest.graphs} == {(r.task, r.precision) for r in manifest.parity}
    for record in manifest.parity:
        vector = record.task in ("embed", "tokens", "genes")
        assert record.measure == ("1-cosine" if vector else "relative")
        limit = LIMITS[record.precision]
        assert record.limit == pytest.approx(limit if vector else np.sqrt(2 * limit), rel=0.05)
        assert 0 <= record.worst <= record.limit
        assert re.fullmatch(r"CPUExecutionProvider \d+\.\d+\.\d+", record.provider)
        short = record.task == "attention" or (record.task == "tokens" and record.dialect != "portable")
        assert record.cells >= (10 if short else 16)
    assert len(set(manifest.vector_ids.values())) == 3


def test_the_golden_cells_span_all_lengths(tiny_bundle):
    bundle = Bundle.open(tiny_bundle)
    golden, settings = bundle.golden(), bundle.manifest.tokenizer
    assert golden.n_cells >= 16
    assert golden.lengths.min() == 2
    assert (golden.lengths == settings.max_length).sum() >= 4
    n = len(bundle.vocabulary())
    again = tokenize(golden.block(), np.arange(n, dtype=np.int64), settings, n)
    np.testing.assert_array_equal(again.ids, golden.ids)
    np.testing.assert_array_equal(again.values, golden.values)


def test_weights_are_shared_by_graphs_and_precisions(tiny_bundle):
    sizes = {path.name: path.stat().st_size for path in (tiny_bundle / "graphs").glob("weights.*")}
    table = 3203 * 64 * 4
    assert table < sizes["weights.float32.bin"] < 1.5 * table
    assert sizes["weights.float16.bin"] < 0.6 * sizes["weights.float32.bin"]


def test_sealing_twice_gives_the_same_bytes(checkpoint, tiny_bundle, tmp_path):
    export(checkpoint, tmp_path / "tiny", ExportOptions(("fp32", "fp16", "int8")))
    files = sorted(path.relative_to(tiny_bundle) for path in tiny_bundle.rglob("*") if path.is_file())
    assert files == sorted(p.relative_to(tmp_path / "tiny") for p in (tmp_path / "tiny").rglob("*") if p.is_file())
    for file in files:
        assert (tmp_path / "tiny" / file).read_bytes() == (tiny_bundle / file).read_bytes(), file


def test_the_bundle_tells_nothing_of_the_machine(tiny_bundle, tmp_path):
    for path in tiny_bundle.rglob("*"):
        if path.is_file():
            raw = path.read_bytes()
            for told in (str(tmp_path.parent.parent).encode(), b"site-packages", b"save_dir", b"best_model.pt:"):
                assert told not in raw
    text = json.loads((tiny_bundle / "manifest.json").read_text())
    assert "vocab_path" not in text["args"]


def test_a_precision_that_misses_its_limit_is_left_out_with_its_figure(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "LIMITS", {**LIMITS, "int8": 1e-9})
    said = []
    report = assemble(prepared, tmp_path / "b", ExportOptions(("fp32", "int8")), said.append)
    assert report.manifest.precisions == ("fp32",)
    assert {record.task for record in report.left_out} >= {"embed", "tokens"}
    assert all(record.worst > record.limit for record in report.left_out)
    assert any("int8 embed" in line and "left out" in line for line in said)
    assert not list((tmp_path / "b" / "graphs").glob("*int8*"))


def test_nothing_is_sealed_when_no_precision_holds(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "LIMITS", dict.fromkeys(LIMITS, 0.0))
    with pytest.raises(ParityError, match=r"fp32 embed .* \(limit 0e\+00\)"):
        assemble(prepared, tmp_path / "b", ExportOptions(("fp32",)), lambda line: None)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_overflow_float16_are_left_out_not_sealed(checkpoint, tmp_path):
    state = dict(checkpoint.state)
    name = "transformer_encoder.layers.0.linear1.weight"
    state[name] = torch.where(torch.zeros_like(state[name]).index_fill(0, torch.tensor([0]), 1.0) > 0, 1e6, state[name])
    report = export(replace(checkpoint, state=state), tmp_path / "b", ExportOptions(("fp32", "fp16")))
    assert report.manifest.precisions == ("fp32",)
    assert [r.worst for r in report.left_out if r.task == "embed"] == [float("inf")]


def test_all_that_changes_a_vector_changes_the_digest_of_the_weights(checkpoint):
    other = checkpoint.state | {"encoder.enc_norm.bias": checkpoint.state["encoder.enc_norm.bias"] + 1e-6}
    digests = [
        weights_digest(changed)
        for changed in (
            checkpoint,
            replace(checkpoint, state=other),
            replace(checkpoint, config=replace(checkpoint.config, n_heads=8)),
            replace(checkpoint, config=replace(checkpoint.config, pooling="avg-pool")),
            replace(checkpoint, binning_genes=("ABCB8",)),
        )
    ]
    assert len(set(digests)) == len(digests)
    assert weights_digest(replace(checkpoint, args={"dropout": 0.5})) == digests[0]


def test_what_cannot_be_exported_is_said_before_any_work(checkpoint, tmp_path):
    with pytest.raises(OptionError, match="Found precision int4; a bundle can be sealed in fp32, fp16, bf16, int8"):
        export(checkpoint, tmp_path / "b", ExportOptions(("fp32", "int4")))
    with pytest.raises(OptionError, match="one is named twice"):
        export(checkpoint, tmp_path / "b", ExportOptions(("fp32", "fp32")))
    with pytest.raises(OutputError, match="There is no folder"):
        export(checkpoint, tmp_path / "missing" / "b")
    (tmp_path / "there").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        export(checkpoint, tmp_path / "there")
    shutil.rmtree(tmp_path / "there")
