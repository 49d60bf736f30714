"""A random checkpoint has the public layout, loads, and is the same for the same seed."""

from pathlib import Path

import pytest
import torch

from scgpt_export.checkpoint import load
from scgpt_export.random_model import public_state, vocabulary, write
from scgpt_export.reference import ModelConfig, ScGPT
from scgpt_runtime.errors import OptionError, OutputError


def test_a_tiny_model_loads_as_a_pretrained_one(tmp_path: Path) -> None:
    checkpoint = load(write("tiny", tmp_path / "model", seed=1))
    config = checkpoint.config
    assert (config.n_layers, config.dim, config.n_heads, config.d_hid, config.n_tokens) == (2, 64, 4, 64, 3003)
    assert checkpoint.tokens[-3:] == ["<pad>", "<cls>", "<eoc>"]
    assert checkpoint.tokens[0] == "A1BG"
    assert (checkpoint.unused, checkpoint.missing) == (("flag_encoder.weight",), ())
    assert (checkpoint.cls_value, config.mvc, config.n_cls) == (-2.0, True, 0)
    assert "note" not in checkpoint.report()


def test_norms_and_biases_are_not_trivial(tmp_path: Path) -> None:
    state = load(write("tiny", tmp_path, seed=1)).state
    for key, value in state.items():
        if not key.endswith("decoder.fc.4.bias"):  # one number
            assert value.std() > 1e-3, key


def test_the_same_seed_gives_the_same_tensors_and_another_others(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    one, again, other = (write("tiny", tmp_path / name, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert torch.equal(before, torch.random.get_rng_state())
    assert (one / "best_model.pt").read_bytes() == (again / "best_model.pt").read_bytes()
    assert load(one).source["best_model.pt"] != load(other).source["best_model.pt"]


def test_the_whole_human_kind_has_the_public_model_s_sizes_and_keys() -> None:
    tokens = vocabulary("whole-human")
    assert (len(tokens), tokens.index("<pad>"), tokens.index("<cls>")) == (60697, 60694, 60695)
    config = ModelConfig(n_tokens=60697, dim=512, n_heads=8, d_hid=512, n_layers=12, pad_id=60694, mvc=True)
    with torch.device("meta"):
        state = ScGPT(config).state_dict()
    assert len(state) + 1 == 163
    assert sum(value.numel() for value in state.values()) + 2 * 512 == 51_330_049


def test_keys_are_those_of_flash_attention() -> None:
    config = ModelConfig(n_tokens=13, dim=8, n_heads=2, d_hid=8, n_layers=1, pad_id=10, mvc=True)
    state = public_state(config, seed=0)
    assert state["transformer_encoder.layers.0.self_attn.Wqkv.weight"].shape == (24, 8)
    assert state["transformer_encoder.layers.0.self_attn.Wqkv.bias"].shape == (24,)
    assert state["flag_encoder.weight"].shape == (2, 8)
    assert not any("in_proj" in key for key in state)


def test_a_checkpoint_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "best_model.pt").touch()
    with pytest.raises(OutputError, match="exists already"):
        write("tiny", tmp_path)


@pytest.mark.parametrize(("kind", "seed", "said"), [("huge", 0, "whole-human or tiny"), ("tiny", -1, "seed -1")])
def test_another_kind_or_a_negative_seed_is_refused(tmp_path: Path, kind: str, seed: int, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        write(kind, tmp_path, seed)  # type: ignore[arg-type]
