"""The multi-omic reference gives what the original gave, and what the specification says of the cases beyond."""

import numpy as np
import pytest
import torch
from torch import Tensor

from scgpt_export.multiomic import MultiOmicScGPT, model_class
from scgpt_export.reference import ModelConfig, MultiOmicConfig, ScGPT
from scgpt_runtime.errors import OptionError

from .test_reference import GOLDEN, LIMIT, part

MODALITIES = MultiOmicConfig(n_modalities=5, pad=2, cls=3)
"""Protein 0, RNA 1, ``<pad>`` 2, ``<cls>`` 3, ``<eoc>`` 4."""


def config_of(**changes: object) -> ModelConfig:
    fields: dict[str, object] = {
        "n_tokens": 203, "dim": 32, "n_heads": 4, "d_hid": 48, "n_layers": 3, "pad_id": 200, "n_cls": 5, "mvc": True,
        "multiomic": MODALITIES,
    }  # fmt: skip
    return ModelConfig(**(fields | changes))


def cells(n_cells: int = 3, length: int = 7) -> dict[str, Tensor]:
    drawn = torch.Generator().manual_seed(1)
    mods = torch.randint(0, 2, (n_cells, length), generator=drawn)
    mods[:, 0] = 3
    return {
        "ids": torch.randint(0, 200, (n_cells, length), generator=drawn),
        "values": torch.randint(0, 51, (n_cells, length), generator=drawn).float(),
        "padding": torch.zeros(n_cells, length, dtype=torch.bool),
        "mods": mods,
    }


def model_of(**changes: object) -> MultiOmicScGPT:
    torch.manual_seed(0)
    return MultiOmicScGPT(config_of(**changes)).eval()


def test_every_output_is_the_original_s() -> None:
    with np.load(GOLDEN / "heads" / "multiomic_bl0.npz") as arrays:
        found = dict(arrays)
    inputs, expected = part(found, "input/"), part(found, "slow/")
    model = MultiOmicScGPT(config_of(dab=True, n_batches=3))
    model.load_state_dict(part(found, "state/"), strict=True)
    padding = inputs["src_key_padding_mask"]
    with torch.no_grad():
        output = model.eval()(
            inputs["src"], inputs["values"], padding, mods=inputs["mod_types"], cls=True, mvc=True, ecs=True
        )
    assert set(output) == set(expected)
    for key, value in expected.items():
        kept = ~padding if value.shape == padding.shape else ...
        assert (output[key] - value).abs()[kept].max() <= LIMIT, key


def test_a_cell_s_embedding_does_not_depend_on_modalities_but_its_values_do() -> None:
    model, given = model_of(), cells()
    with torch.no_grad():
        before = model(**given, mvc=True)
        after = model(**(given | {"mods": torch.zeros_like(given["mods"])}), mvc=True)
    assert torch.equal(before["cell_emb"], after["cell_emb"])
    assert not torch.allclose(before["mlm_output"], after["mlm_output"], atol=1e-3)
    assert not torch.allclose(before["mvc_output"], after["mvc_output"], atol=1e-3)


@pytest.mark.parametrize("multiomic", [MODALITIES, MultiOmicConfig()])
def test_batch_labels_reach_the_gene_s_side_of_mvc_too(multiomic: MultiOmicConfig) -> None:
    model = model_of(batch_labels=True, n_batches=2, multiomic=multiomic)
    given = cells() if multiomic.n_modalities else {key: value for key, value in cells().items() if key != "mods"}
    assert model.mvc_decoder.gene2query.weight.shape == (64, 64)
    with torch.no_grad():
        first, second = (model(**given, batch=torch.tensor([0, label, 0]), mvc=True) for label in (0, 1))
        half = model.mvc_decoder.gene2query.weight[:, 32:].clone()
        model.mvc_decoder.gene2query.weight[:, 32:] = 0
        blind = model(**given, batch=torch.tensor([0, 0, 0]), mvc=True)
    assert half.abs().max() > 0
    for key in ("mlm_output", "mvc_output"):
        assert torch.equal(first[key][0], second[key][0])
        assert not torch.allclose(first[key][1], second[key][1], atol=1e-3)
    assert not torch.allclose(first["mvc_output"], blind["mvc_output"], atol=1e-3)


def test_label_and_modality_are_added_up() -> None:
    model, mods = model_of(batch_labels=True, n_batches=2), cells()["mods"]
    labels = torch.tensor([1, 0, 1])
    with torch.no_grad():
        found = model.beside(7, labels, mods)
        expected = model.batch_encoder(labels)[:, None] + model.mod_encoder(mods)
    assert torch.allclose(found, expected, atol=1e-6)


def test_the_class_follows_the_config() -> None:
    assert model_class(config_of()) is MultiOmicScGPT
    assert model_class(config_of(multiomic=None)) is ScGPT


@pytest.mark.parametrize(
    ("config", "left_out", "said"),
    [
        ({}, "mods", "has modalities and none were given"),
        ({"multiomic": None}, "", "Modalities were given to a model that was trained without them"),
        ({"multiomic": MultiOmicConfig()}, "", "neither modalities nor batch labels"),
        ({"pooling": "w-pool"}, "", "w-pool"),
    ],
)
def test_a_wrong_question_says_what_is_wrong(config: dict[str, object], left_out: str, said: str) -> None:
    asked = {key: value for key, value in cells().items() if key != left_out}
    with pytest.raises(OptionError, match=said):
        model_class(config_of(**config))(config_of(**config))(**asked, mvc=True)


def test_it_trains() -> None:
    model = model_of().train()
    output = model(**cells(), mvc=True)
    (output["mlm_output"].mean() + output["mvc_output"].mean()).backward()
    assert model.mod_encoder.embedding.weight.grad[2].abs().sum() == 0
    assert model.mod_encoder.embedding.weight.grad[0].abs().sum() > 0
