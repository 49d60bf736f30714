"""Values that a model cannot take, or was not trained on, are refused when it is loaded; raw ones are announced."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scgpt_export.checkpoint import load
from scgpt_export.reference import ModelConfig
from scgpt_export.values import check_values
from scgpt_runtime.errors import CheckpointError

SMALL = Path(__file__).parents[1] / "golden" / "small_checkpoint"
SIZES: dict[str, Any] = {"n_tokens": 9, "dim": 4, "n_heads": 1, "d_hid": 4, "n_layers": 1, "pad_id": 8}
CONTINUOUS = ModelConfig(**SIZES)


def category(rows: int, pad_value: float) -> ModelConfig:
    return ModelConfig(**SIZES, value_style="category", n_input_bins=rows, pad_value=pad_value)


@pytest.mark.parametrize(
    ("config", "args", "fine_tuned"),
    [
        (CONTINUOUS, {}, False),
        (category(53, 51), {"mask_value": 52}, False),
        (category(53, 51), {"mask_value": 52, "n_bins": 7}, False),  # zero-shot use has 51 bins whatever args say
        (category(9, 7), {"mask_value": 8, "n_bins": 7}, True),
    ],
)
def test_values_with_a_place_in_the_encoder_are_taken_without_a_word(
    config: ModelConfig, args: dict[str, Any], fine_tuned: bool
) -> None:
    assert check_values(config, args, fine_tuned=fine_tuned) == ()


@pytest.mark.parametrize(
    ("config", "args", "fine_tuned", "said"),
    [
        (category(53, 51), {}, False, "mask_value -1 .* does not have: -1. .* rows 0 to 52"),
        (category(53, 51), {"mask_value": 53}, False, "does not have: 53"),
        (category(53, 51), {"mask_value": 51.5}, False, "does not have: 51.5"),
        (category(53, 60), {"mask_value": 52}, False, "pad_value 60 .* does not have: 60"),
        (category(49, 47), {"mask_value": 48}, False, "does not have: 49, 50. .* rows 0 to 48"),
        (category(53, 51), {"mask_value": 52, "n_bins": 60}, True, "60 bins, .* does not have: 53, 54, "),
        (category(53, 51), {"mask_value": 52, "input_style": "log1p"}, True, "'log1p', but .* takes bins alone"),
        (CONTINUOUS, {"n_bins": "51"}, True, "n_bins '51', expected a whole number from 2 to 254"),
        (CONTINUOUS, {"n_bins": 300}, True, "n_bins 300"),
        (CONTINUOUS, {"mask_value": None}, False, "mask_value None, expected a number"),
        (CONTINUOUS, {"input_style": "raw"}, False, "input_style 'raw', expected one of binned, log1p, normed_raw"),
        (CONTINUOUS, {"input_style": ["binned"]}, False, "expected one of binned"),
    ],
)
def test_values_without_a_place_in_the_encoder_are_refused(
    config: ModelConfig, args: dict[str, Any], fine_tuned: bool, said: str
) -> None:
    with pytest.raises(CheckpointError, match=said):
        check_values(config, args, fine_tuned=fine_tuned)


def test_a_model_that_tells_zeros_asks_whether_they_were_tokens() -> None:
    config = ModelConfig(**SIZES, explicit_zero=True)
    (note,) = check_values(config, {}, fine_tuned=True)
    assert '{"include_zero_gene": true}' in note
    assert check_values(config, {}, fine_tuned=False) == ()
    assert check_values(config, {"include_zero_gene": False}, fine_tuned=True) == ()


@pytest.mark.parametrize("style", ["log1p", "normed_raw"])
def test_the_report_says_which_values_cells_must_bring(tmp_path: Path, style: str) -> None:
    (tmp_path / "args.json").write_text(f'{{"input_style": "{style}"}}')
    assert f"cells must bring them as the model was trained on them, {style} (--layer)" in (
        load(SMALL, args=tmp_path / "args.json").report()
    )
    assert "--layer" not in load(SMALL).report()


def test_a_table_of_values_that_lacks_the_mask_is_refused_when_the_model_is_loaded(tmp_path: Path) -> None:
    state = torch.load(SMALL / "best_model.pt", weights_only=True)
    state = {key: tensor for key, tensor in state.items() if not key.startswith("value_encoder.")}
    torch.save(
        state
        | {
            "value_encoder.embedding.weight": torch.from_numpy(np.ones((53, 64), np.float32)),
            "value_encoder.enc_norm.weight": torch.ones(64),
            "value_encoder.enc_norm.bias": torch.zeros(64),
        },
        tmp_path / "model.pt",
    )
    (tmp_path / "args.json").write_text('{"pad_value": 51}')
    with pytest.raises(CheckpointError, match="mask_value -1"):
        load(tmp_path / "model.pt", base=SMALL, args=tmp_path / "args.json")
    (tmp_path / "args.json").write_text('{"pad_value": 51, "mask_value": 52}')
    assert load(tmp_path / "model.pt", base=SMALL, args=tmp_path / "args.json").config.n_input_bins == 53
