"""A perturbation generator becomes a bundle that gives the original's answers, proves itself, and says what it is."""

import numpy as np
import pytest
import torch

from scgpt_export.build import ExportOptions, export
from scgpt_export.checkpoint import load
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import Batch
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.errors import CheckpointError, OptionError
from scgpt_runtime.verify import verify
from tests import generator_folder

LIMIT = 1e-5
CPU = EngineOptions(provider="cpu", precision="fp32")


@pytest.fixture(scope="module")
def generator_bundle(exported_generator):
    """Of the golden weights, in both precisions."""
    return exported_generator / "bundle"


@pytest.fixture(scope="module")
def original():
    with np.load(generator_folder.GOLDEN) as arrays:
        return dict(arrays)


def cells_of(original) -> Batch:
    """The golden cells, none of which is padded."""
    ids, values = original["input/src"].astype(np.uint16), original["input/values"]
    n_cells, length = ids.shape
    flags = original["input/input_pert_flags"].astype(np.uint8)
    return Batch(ids, values, np.full(n_cells, length, np.int32), np.arange(n_cells), flags=flags)


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_profiles_and_heads_are_the_original_s(generator_bundle, original, provider):
    if provider == "openvino":
        pytest.importorskip("openvino")
    options = EngineOptions(provider=provider, precision="fp32")
    with Engine.open(Bundle.open(generator_bundle), options, task="perturb") as engine:
        batch = cells_of(original)
        answers = engine.infer(batch)
        classes = engine.head("classify").feed({"cell": answers["cell"]})["logits"]
        values = engine.head("mvc").feed({"cell": answers["cell"], "ids": batch.ids})["value"]
    assert np.abs(answers["value"] - original["slow/mlm_output"]).max() <= LIMIT
    assert np.abs(classes - original["slow/cls_output"]).max() <= LIMIT
    assert np.abs(values - original["slow/mvc_output"]).max() <= LIMIT


def test_a_cell_s_profile_does_not_depend_on_the_others(generator_bundle, original):
    whole = cells_of(original)
    with Engine.open(Bundle.open(generator_bundle), CPU, task="perturb") as engine:
        together = engine.infer(whole)["value"]
        for row in range(len(whole.cells)):
            one = slice(row, row + 1)
            alone = Batch(
                whole.ids[one], whole.values[one], whole.lengths[one], whole.cells[:1], flags=whole.flags[one]
            )
            np.testing.assert_allclose(engine.infer(alone)["value"][0], together[row], atol=1e-5)


def test_every_gene_can_be_perturbed_the_first_one_too(generator_bundle, original):
    batch = cells_of(original)
    with Engine.open(Bundle.open(generator_bundle), CPU, task="perturb") as engine:
        for place in (0, batch.ids.shape[1] - 1):
            unlike = batch.flags.copy()
            unlike[:, place] ^= 1
            changed = Batch(batch.ids, batch.values, batch.lengths, batch.cells, flags=unlike)
            difference = engine.infer(changed)["value"] - engine.infer(batch)["value"]
            assert (np.abs(difference).max(axis=1) > 1e-3).all()


def test_the_bundle_says_that_it_is_a_generator(generator_bundle):
    manifest = Bundle.open(generator_bundle).manifest
    assert {graph.task for graph in manifest.graphs} == {"perturb", "genes", "classify", "mvc"}
    (graph,) = [graph for graph in manifest.graphs if (graph.task, graph.precision) == ("perturb", "fp32")]
    assert [spec.name for spec in graph.inputs] == ["ids", "values", "flags"]
    assert [spec.name for spec in graph.outputs] == ["value", "cell"]
    assert (manifest.tokenizer.value_style, manifest.tokenizer.include_zeros) == ("raw", True)
    assert manifest.precisions == ("fp32", "fp16")
    assert {record.task for record in manifest.parity} == {"perturb", "genes", "classify", "mvc"}
    assert all(record.worst <= record.limit for record in manifest.parity)


def test_the_bundle_proves_itself(generator_bundle):
    results = verify(Bundle.open(generator_bundle), "cpu")
    assert [result.precision for result in results] == ["fp32", "fp16"]
    assert all(result.passed and result.cells == 11 for result in results)
    assert results[0].worst < 1e-9


def test_verify_finds_profiles_that_are_not_the_reference_s(generator_bundle, monkeypatch):
    bundle = Bundle.open(generator_bundle)
    golden = bundle.golden()
    golden.profiles[-1] += 10
    monkeypatch.setattr(Bundle, "golden", lambda self: golden)
    (result,) = verify(bundle, "cpu", "fp32")
    assert not result.passed
    assert result.tokens_equal


def test_with_explicit_zeros_the_probability_is_a_second_output(tmp_path):
    def change(state):
        twins = {
            key.replace(".fc.", ".zero_logit."): value.clone() for key, value in state.items() if "coder.fc." in key
        }
        return {key: value for key, value in state.items() if "mvc" not in key} | twins

    checkpoint = load(generator_folder.write(tmp_path / "checkpoint", change))
    assert checkpoint.config.explicit_zero
    export(checkpoint, tmp_path / "bundle", ExportOptions(("fp32",)))
    with Engine.open(Bundle.open(tmp_path / "bundle"), CPU, task="perturb") as engine:
        tokens = np.arange(8, dtype=np.uint16)[None]
        batch = Batch(
            tokens, np.ones((1, 8), np.float32), np.array([8]), np.array([0]), flags=np.zeros((1, 8), np.uint8)
        )
        answers = engine.infer(batch)
    assert set(answers) == {"value", "nonzero", "cell"}
    assert ((answers["nonzero"] > 0) & (answers["nonzero"] < 1)).all()


def test_args_json_tells_what_no_tensor_does(tmp_path):
    folder = generator_folder.write(
        tmp_path / "c", decoder_activation="ReLU", decoder_adaptive_bias=True, pert_pad_id=2
    )
    told = load(folder).config.generator
    assert (told.activation, told.adaptive_bias, told.pad_flag) == ("ReLU", True, 2)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"pert_pad_id": 3}, "pert_pad_id 3.*from 0 to 2"),
        ({"decoder_activation": "Relu"}, "'Relu'.*ReLU"),
        ({"decoder_adaptive_bias": 1}, "expected true or false"),
    ],
)
def test_args_json_that_no_generator_can_have_is_refused(tmp_path, args, said):
    with pytest.raises(CheckpointError, match=said):
        load(generator_folder.write(tmp_path / "c", **args))


def test_a_generator_that_is_not_whole_is_refused(tmp_path):
    def change(state):
        return {key: value for key, value in state.items() if key != "decoder.bias_decoder.fc.0.weight"}

    with pytest.raises(CheckpointError, match=r"Missing: decoder\.bias_decoder"):
        load(generator_folder.write(tmp_path / "c", change))


def test_another_precision_is_refused(tmp_path):
    checkpoint = load(generator_folder.write(tmp_path / "c"))
    with pytest.raises(OptionError, match="precision int8; a perturbation generator can be sealed in fp32, fp16"):
        export(checkpoint, tmp_path / "bundle", ExportOptions(("fp32", "int8")))


def test_two_activations_are_two_models(tmp_path):
    from scgpt_export.provenance import weights_digest

    plain, other = (
        load(generator_folder.write(tmp_path / name, decoder_activation=name)) for name in ("Tanh", "Sigmoid")
    )
    assert all(torch.equal(value, other.state[key]) for key, value in plain.state.items())
    assert weights_digest(plain) != weights_digest(other)


def test_genes_of_binning_are_refused(tmp_path):
    (tmp_path / "genes.json").write_text('["g1"]')
    with pytest.raises(OptionError, match="bins nothing"):
        load(generator_folder.write(tmp_path / "c"), genes=tmp_path / "genes.json")
