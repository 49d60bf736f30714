"""The configuration: public fields with public defaults, and what a model makes of them."""

import pytest

from scgpt_infer import models
from scgpt_infer.compat import scGPTConfig
from scgpt_runtime.errors import OptionError

PUBLIC = {
    "pad_token": "<pad>",
    "batch_size": 24,
    "emb_mode": "cell",
    "nlayers": 12,
    "nheads": 8,
    "embsize": 512,
    "d_hid": 512,
    "dropout": 0.2,
    "n_layers_cls": 3,
    "mask_value": -1,
    "pad_value": -2,
    "world_size": 8,
    "accelerator": False,
    "device": "cpu",
    "binning_seed": 123,
}


def test_every_public_field_has_the_public_default_and_can_be_named():
    config = scGPTConfig()
    assert {name: getattr(config, name) for name in PUBLIC} == PUBLIC
    assert scGPTConfig(**PUBLIC) == config


def test_an_unknown_field_is_named_with_those_that_there_are():
    with pytest.raises(OptionError, match=r"no field 'batchsize'; it has model, emb_mode, .*batch_size"):
        scGPTConfig(batchsize=10)


@pytest.mark.parametrize(
    "wrong", [{"emb_mode": "mean"}, {"batch_size": 0}, {"batch_size": True}, {"binning_seed": -1}], ids=str
)
def test_a_value_that_cannot_be_is_refused_by_name(wrong):
    with pytest.raises(OptionError, match=next(iter(wrong))):
        scGPTConfig(**wrong)


def test_the_default_seed_is_the_models_own():
    assert scGPTConfig().seed is None
    assert scGPTConfig(binning_seed=7).seed == 7


def test_only_fields_that_were_set_and_that_the_model_contradicts_differ():
    manifest = models.resolve("demo").manifest
    assert scGPTConfig().differences(manifest) == []
    assert scGPTConfig(nlayers=manifest.args["nlayers"], dropout=0.5).differences(manifest) == []
    assert scGPTConfig(nlayers=6, embsize=256).differences(manifest) == [
        "nlayers=6 (the model's: 4)",
        "embsize=256 (the model's: 64)",
    ]
