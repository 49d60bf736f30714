"""A checkpoint that was fine-tuned with the genes that cells do not express: what is made of it."""

import json
from pathlib import Path

import numpy as np
import pytest

from scgpt_export.build import ExportOptions, export
from scgpt_export.calibration import CalibrationCells, calibration_tokens
from scgpt_export.checkpoint import Checkpoint, load
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.errors import CheckpointError
from scgpt_runtime.verify import verify

N_GENES = 90


@pytest.fixture(scope="module")
def small(golden_files) -> Path:
    return golden_files / "small_checkpoint"


@pytest.fixture(scope="module")
def genes(small) -> list[str]:
    names = sorted(json.loads((small / "vocab.json").read_text()))
    return [name for name in names if not name.startswith("<")][:N_GENES]


@pytest.fixture(scope="module")
def loaded(small, genes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("beside")
    (folder / "genes.json").write_text(json.dumps(genes))

    def load_with(**fields) -> Checkpoint:
        (folder / "args.json").write_text(json.dumps(fields))
        return load(small, args=folder / "args.json", genes=folder / "genes.json")

    return load_with


@pytest.fixture(scope="module")
def bundle(loaded, tmp_path_factory) -> Bundle:
    output = tmp_path_factory.mktemp("zeros") / "tuned"
    checkpoint = loaded(fine_tuned=True, include_zero_gene=True, max_seq_len=N_GENES + 1)
    export(checkpoint, output, ExportOptions(("fp32",)))
    return Bundle.open(output)


def test_the_bundle_is_sealed_with_zeros_in_the_format_that_knows_them(bundle):
    assert bundle.manifest.tokenizer.include_zeros
    assert bundle.manifest.format == 2
    assert bundle.manifest.tokenizer.cls_value == 0


def test_golden_cells_have_a_token_for_each_gene_that_takes_part_and_prove_the_bundle(bundle, genes):
    golden = bundle.golden()
    assert set(golden.lengths) == {N_GENES + 1}
    index = bundle.vocabulary().index
    assert golden.ids[1 : N_GENES + 1].tolist() == sorted(index[name] for name in genes)
    assert (golden.values == 0).mean() > 0.1
    for result in verify(bundle, "cpu"):
        assert result.passed, result


def test_which_genes_a_file_has_decides_its_vectors_and_zeros_are_among_them(bundle, genes):
    index = bundle.vocabulary().index
    columns = np.array([index[name] for name in genes])
    cell = CellBlock(np.array([0, 3]), np.array([4, 8, 9], np.int32), np.array([1, 5, 2], np.float32), 0)
    with Engine.open(bundle, EngineOptions("cpu", "fp32")) as engine:
        (all_genes,) = engine.run([cell], columns)
        (fewer,) = engine.run([cell], columns[:60])
        (strangers,) = engine.run([cell], np.append(columns, [index["<pad>"], index["<eoc>"]]))
    assert all_genes.lengths.tolist() == strangers.lengths.tolist() == [N_GENES + 1]
    assert fewer.lengths.tolist() == [61]
    np.testing.assert_array_equal(all_genes.outputs["cell"], strangers.outputs["cell"])
    assert np.abs(all_genes.outputs["cell"] - fewer.outputs["cell"]).max() > 1e-3


def test_ranges_for_int8_are_taken_on_cells_with_zeros(bundle, genes):
    cell = CellBlock(np.array([0, 1]), np.array([4], np.int32), np.ones(1, np.float32), 0)
    cells = CalibrationCells(cell, {"index": genes}, "0" * 64)
    tokens = calibration_tokens(cells, bundle.vocabulary(), bundle.manifest.tokenizer, genes)
    assert np.diff(tokens.offsets).tolist() == [N_GENES + 1]


def test_zeros_are_for_fine_tuned_use_alone(loaded):
    assert loaded(fine_tuned=True, include_zero_gene=True).include_zeros
    assert loaded(fine_tuned=True, include_zero_gene="all").include_zeros
    assert not loaded(fine_tuned=True, include_zero_gene=False).include_zeros
    assert not loaded(fine_tuned=True).include_zeros
    assert not loaded(fine_tuned=False, include_zero_gene=True).include_zeros


def test_the_report_says_that_zeros_are_tokens(loaded):
    told = "genes that a cell does not express are tokens, too"
    assert told in loaded(fine_tuned=True, include_zero_gene=True).report()
    assert told not in loaded(fine_tuned=True).report()


@pytest.mark.parametrize("said", ["batch-wise", 1, None])
def test_another_word_for_zeros_is_refused(loaded, said):
    with pytest.raises(CheckpointError, match=r"include_zero_gene .* expected true or false"):
        loaded(fine_tuned=True, include_zero_gene=said)
