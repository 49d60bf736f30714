"""Every variant of key names loads as the same model, options show in the keys, and other models are refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from scgpt_export.healing import config_from, fit, heads_of, heal
from scgpt_export.reference import ModelConfig
from scgpt_runtime.errors import CheckpointError

GOLDEN = Path(__file__).parents[1] / "golden"
ARGS = {"nheads": 4, "pad_value": -2}


def golden_state(case: str) -> dict[str, Tensor]:
    with np.load(GOLDEN / "heads" / f"{case}.npz") as arrays:
        return {k.removeprefix("state/"): torch.from_numpy(arrays[k]) for k in arrays if k.startswith("state/")}


def config_of(state: dict[str, Tensor], **args: object) -> ModelConfig:
    healed = heal(state)
    config, _ = config_from(healed, heads_of(healed), ARGS | args, pad_id=200)
    return config


def load(state: dict[str, Tensor], **args: object) -> dict[str, Tensor]:
    return fit(heal(state), config_of(state, **args)).state


def flash(key: str) -> str:
    return key.replace("self_attn.in_proj_", "self_attn.Wqkv.")


def wrapped_flash(key: str) -> str:
    return flash(key).replace("self_attn.", "self_attn._impl.")


def distributed(key: str) -> str:
    return f"module.{flash(key)}"


@pytest.mark.parametrize("rename", [flash, wrapped_flash, distributed])
def test_every_variant_of_key_names_is_the_same_model(rename: Callable[[str], str]) -> None:
    plain = golden_state("dsbn_dab")
    renamed = {rename(key): value for key, value in plain.items()}
    assert renamed.keys() != plain.keys()
    loaded = load(renamed)
    assert loaded.keys() == plain.keys()
    assert all(torch.equal(loaded[key], value) for key, value in plain.items())


@pytest.mark.parametrize(
    ("case", "args", "differs"),
    [
        ("base", {}, {"mvc": True}),
        ("explicit_zero", {}, {"mvc": True, "explicit_zero": True}),
        (
            "dsbn_dab",
            {},
            {"mvc": True, "explicit_zero": True, "norm": "dsbn", "batch_labels": True, "n_batches": 3, "dab": True},
        ),
        ("batchnorm", {}, {"mvc": True, "norm": "batchnorm"}),
        ("avg_pool", {"cell_emb_style": "avg-pool"}, {"mvc": True, "pooling": "avg-pool"}),
        ("scaling", {"input_emb_style": "scaling"}, {"value_style": "scaling"}),
    ],
)
def test_options_show_in_the_keys(case: str, args: dict[str, object], differs: dict[str, object]) -> None:
    sizes = {"n_tokens": 203, "dim": 32, "n_heads": 4, "d_hid": 48, "n_layers": 3, "pad_id": 200, "n_cls": 5}
    assert config_of(golden_state(case), **args) == ModelConfig(**(sizes | differs))


def category_state() -> dict[str, Tensor]:
    state = {key: value for key, value in golden_state("base").items() if not key.startswith("value_encoder.")}
    return state | {
        "value_encoder.embedding.weight": torch.randn(53, 32),
        "value_encoder.enc_norm.weight": torch.ones(32),
        "value_encoder.enc_norm.bias": torch.zeros(32),
    }


def test_a_category_value_encoder_shows_in_the_keys_and_needs_a_pad_value_in_its_table() -> None:
    config = config_of(category_state(), pad_value=51)
    assert (config.value_style, config.n_input_bins, config.pad_value) == ("category", 53, 51.0)
    with pytest.raises(CheckpointError, match="pad_value -2, but the model's values are rows 0 to 52"):
        config_of(category_state())


def test_deeper_classifiers_show_in_the_keys() -> None:
    state = golden_state("base")
    for new, old in (("6.weight", "3.weight"), ("6.bias", "3.bias"), ("8.weight", "5.weight"), ("8.bias", "5.bias")):
        state[f"cls_decoder._decoder.{new}"] = state[f"cls_decoder._decoder.{old}"]
    assert config_of(state).n_layers_cls == 4
    assert load(state).keys() == state.keys()


def test_weights_without_a_transformer_layer_are_refused() -> None:
    state = {key: value for key, value in golden_state("base").items() if not key.startswith("transformer_encoder.")}
    with pytest.raises(CheckpointError, match="no transformer layer"):
        heal(state)


def without(key: str) -> dict[str, Tensor]:
    return {k: v for k, v in golden_state("dsbn_dab").items() if k != key}


@pytest.mark.parametrize(
    "key",
    [
        "transformer_encoder.layers.1.norm2.bias",
        "value_encoder.linear1.bias",
        "batch_encoder.embedding.weight",
        "dsbn.bns.1.running_var",
        "decoder.fc.4.weight",
        "cls_decoder.out_layer.bias",
        "mvc_decoder.W.weight",
    ],
)
def test_a_missing_tensor_is_named(key: str) -> None:
    with pytest.raises(CheckpointError, match=f"Missing: .*{key}"):
        load(without(key))


def test_a_missing_layer_is_named_not_skipped() -> None:
    state = {k: v for k, v in golden_state("base").items() if ".layers.1." not in k}
    with pytest.raises(CheckpointError, match=r"Missing: transformer_encoder.layers.1"):
        load(state)


def test_a_missing_value_encoder_is_not_taken_for_scaling() -> None:
    with pytest.raises(CheckpointError, match='"scaling" has no value encoder'):
        load(golden_state("scaling"))


def test_a_tensor_of_another_shape_is_named_with_both_shapes() -> None:
    state = golden_state("base") | {"decoder.fc.2.weight": torch.zeros(32, 31)}
    with pytest.raises(CheckpointError, match=r"decoder.fc.2.weight \(32, 31\) instead of \(32, 32\)"):
        load(state)


@pytest.mark.parametrize("key", ["transformer_encoder.norm.weight", "dsbn.bns.0.weight", "bn.weight", "encoder.extra"])
def test_a_tensor_that_would_change_embeddings_is_not_left_out(key: str) -> None:
    with pytest.raises(CheckpointError, match=f"Without a place, .*{key}"):
        load(golden_state("dsbn_dab") | {key: torch.ones(32)})


def test_query_styles_that_never_ran_in_scgpt_are_listed_as_unused() -> None:
    state = {k: v for k, v in golden_state("base").items() if not k.startswith("mvc_decoder.")}
    state |= {"mvc_decoder.gene2query.weight": torch.ones(32, 32), "mvc_decoder.fc1.weight": torch.ones(64, 96)}
    config = config_of(state)
    assert config.mvc is False
    assert fit(heal(state), config).unused == ("mvc_decoder.gene2query.weight", "mvc_decoder.fc1.weight")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"transformer_encoder.layers.0.self_attn.Wqkv.weight": torch.ones(96, 32)},
            "two tensors for .*in_proj_weight",
        ),
        ({"decoder.fc.0.bias": torch.full((32,), torch.nan)}, "decoder.fc.0.bias has values that are NaN"),
        ({"decoder.fc.0.bias": torch.ones(32, dtype=torch.int8)}, "torch.int8, expected floating point"),
        ({"dsbn.bns.3.running_mean": torch.zeros(32)}, "batch_encoder 3, dsbn 4"),
    ],
)
def test_contradictions_are_refused(change: dict[str, Tensor], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        load(golden_state("dsbn_dab") | change)


def test_another_model_s_state_dict_is_refused_with_its_keys() -> None:
    with pytest.raises(CheckpointError, match=r"no gene table encoder.embedding.weight.*bert.weight"):
        heal({"bert.weight": torch.ones(2)})


def test_cases_file_and_golden_files_agree() -> None:
    cases = json.loads((GOLDEN / "heads" / "cases.json").read_text())
    assert {path.stem for path in (GOLDEN / "heads").glob("*.npz")} == cases.keys()
