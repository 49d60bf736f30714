"""The perturbation generator of the reference gives what the original gave; its own cases are decided as documented."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from scgpt_export.generator import AffineDecoder, Generator
from scgpt_export.reference import GeneratorConfig, ModelConfig
from scgpt_runtime.errors import OptionError

GOLDEN = Path(__file__).parents[1] / "golden" / "heads" / "generator.npz"
LIMIT = 1e-5


def golden_config(**changes: object) -> ModelConfig:
    """The config of the golden case."""
    fields: dict[str, object] = {
        "n_tokens": 203, "dim": 32, "n_heads": 4, "d_hid": 48, "n_layers": 3, "pad_id": 200, "pad_value": 0.0,
        "n_cls": 5, "mvc": True, "generator": GeneratorConfig(),
    }  # fmt: skip
    return ModelConfig(**(fields | changes))


def golden_part(prefix: str) -> dict[str, Tensor]:
    with np.load(GOLDEN) as arrays:
        return {key.removeprefix(prefix): torch.from_numpy(arrays[key]) for key in arrays if key.startswith(prefix)}


def golden_model() -> Generator:
    model = Generator(golden_config())
    model.load_state_dict(golden_part("state/"), strict=True)
    return model.eval()


def test_every_output_is_the_original_s() -> None:
    inputs, expected = golden_part("input/"), golden_part("slow/")
    tokens = (inputs["src"], inputs["values"], inputs["input_pert_flags"], inputs["src_key_padding_mask"])
    with torch.no_grad():
        found = golden_model()(*tokens, cls=True, mvc=True, ecs=True)
    assert set(found) == {*expected, "cell_emb"}
    for name, value in expected.items():
        assert (found[name] - value).abs().max() <= LIMIT, name


def test_an_adaptive_bias_of_a_cell_without_values_is_zero() -> None:
    torch.manual_seed(0)
    decoder = AffineDecoder(8, False, GeneratorConfig(adaptive_bias=True))
    values = torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 4.0]])
    hidden = torch.randn(2, 3, 8)
    with torch.no_grad():
        predicted, _ = decoder(hidden, values)
        coefficient, bias = decoder.coeff_decoder(hidden)[0], decoder.bias_decoder(hidden)[0]
    assert (predicted[0] == 0).all()
    torch.testing.assert_close(predicted[1], coefficient[1] * values[1] + bias[1] * 3.0)


def test_explicit_zeros_are_a_probability_and_leave_the_value_alone() -> None:
    torch.manual_seed(0)
    model = Generator(golden_config(explicit_zero=True)).eval()
    cells = (torch.arange(6)[None], torch.rand(1, 6), torch.tensor([[0, 1, 0, 0, 0, 0]]), torch.zeros(1, 6).bool())
    with torch.no_grad():
        first, again, drawn = model(*cells), model(*cells), model(*cells, do_sample=True)
    assert torch.equal(first["mlm_output"], again["mlm_output"])
    assert ((first["mlm_zero_probs"] > 0) & (first["mlm_zero_probs"] < 1)).all()
    assert ((drawn["mlm_output"] == 0) | (drawn["mlm_output"] == first["mlm_output"])).all()


def test_an_activation_is_taken_by_both_parts_of_the_decoder() -> None:
    torch.manual_seed(0)
    decoder = AffineDecoder(8, False, GeneratorConfig(activation="ReLU"))
    with torch.no_grad():
        predicted, _ = decoder(torch.randn(1, 50, 8), torch.ones(1, 50))
    assert (predicted >= 0).all()


def test_a_config_without_a_generator_is_refused() -> None:
    with pytest.raises(OptionError, match="build a ScGPT"):
        Generator(golden_config(generator=None))
