"""Seeded random checkpoints in the layout of the public ones, for benchmarks and tests without the weights.

In: a size and a seed. Out: a folder of ``args.json``, ``vocab.json`` and ``best_model.pt``. Its embeddings mean
nothing.
"""

import json
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from scgpt_export.genes import census_tokens
from scgpt_export.reference import ModelConfig, ScGPT
from scgpt_runtime.errors import OptionError, OutputError

__all__ = ["Kind", "write"]

Kind = Literal["whole-human", "tiny"]

SPECIALS = ("<pad>", "<cls>", "<eoc>")
TINY_GENES = 3_000
NORM_SPREAD = 0.1
"""Norm weights lie this far from one, and all biases from zero, so that a norm left out is seen."""


def write(kind: Kind, folder: Path, seed: int = 0) -> Path:
    """Write a random checkpoint; the same seed gives the same tensors.

    Parameters
    ----------
    kind
        ``whole-human``: the size of the public model of that name (12 layers, width 512, 8 heads, feed-forward 512,
        60,697 tokens). ``tiny``: 2 layers, width 64, 4 heads and the first 3,000 genes of its vocabulary.
    folder
        Where to; made if it is not there.
    seed
        Seed of torch's generator, which is left as it was.

    Returns
    -------
    Path
        `folder`.

    Raises
    ------
    OptionError
        Another kind, or a negative seed.
    OutputError
        The folder holds a checkpoint already, or cannot be written.
    """
    if seed < 0:
        raise OptionError(f"Found the seed {seed}, expected one from 0 on.")
    tokens = vocabulary(kind)
    config = config_of(kind, tokens)
    weights = folder / "best_model.pt"
    if weights.exists():
        raise OutputError(f"{weights} exists already and is not written over: give another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "vocab.json").write_text(
            json.dumps({token: i for i, token in enumerate(tokens)}, indent=2), encoding="utf-8"
        )
        (folder / "args.json").write_text(json.dumps(args_of(config), indent=2), encoding="utf-8")
        torch.save(public_state(config, seed), weights)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}.") from error
    return folder


def vocabulary(kind: Kind) -> list[str]:
    """Tokens by id: genes of the census list, then the special tokens."""
    genes = [token for token in census_tokens() if token not in SPECIALS]
    return [*(genes[:TINY_GENES] if kind == "tiny" else genes), *SPECIALS]


def config_of(kind: Kind, tokens: list[str]) -> ModelConfig:
    """Sizes of a kind of model."""
    pad_id = tokens.index("<pad>")
    if kind == "whole-human":
        return ModelConfig(n_tokens=len(tokens), dim=512, n_heads=8, d_hid=512, n_layers=12, pad_id=pad_id, mvc=True)
    if kind == "tiny":
        return ModelConfig(n_tokens=len(tokens), dim=64, n_heads=4, d_hid=64, n_layers=2, pad_id=pad_id, mvc=True)
    raise OptionError(f"Found the kind {kind!r} of a random model, expected whole-human or tiny.")


def public_state(config: ModelConfig, seed: int) -> dict[str, Tensor]:
    """Random tensors under the keys of the public files: flash attention's names, and pretraining's flag encoder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ScGPT(config)
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                nn.init.normal_(module.weight, mean=1.0, std=NORM_SPREAD)
                nn.init.normal_(module.bias, std=NORM_SPREAD)
        for name, parameter in model.named_parameters():
            if name.endswith("in_proj_bias"):
                nn.init.normal_(parameter, std=NORM_SPREAD)
        flags = torch.randn(2, config.dim)
    state = {key.replace("self_attn.in_proj_", "self_attn.Wqkv."): value for key, value in model.state_dict().items()}
    return state | {"flag_encoder.weight": flags}


def args_of(config: ModelConfig) -> dict[str, Any]:
    """The fields of a public ``args.json`` that say what the model is and how it was fed."""
    return {
        "data_source": "random weights",
        "load_model": None,
        "pad_token": "<pad>",
        "input_style": "binned",
        "input_emb_style": "continuous",
        "n_bins": 51,
        "max_seq_len": 1200,
        "training_tasks": "both",
        "mask_ratio": [0.25, 0.5, 0.75],
        "trunc_by_sample": True,
        "no_cls": True,
        "no_cce": True,
        "fp16": True,
        "fast_transformer": True,
        "nlayers": config.n_layers,
        "nheads": config.n_heads,
        "embsize": config.dim,
        "d_hid": config.d_hid,
        "dropout": 0.2,
        "n_layers_cls": config.n_layers_cls,
        "mask_value": -1,
        "pad_value": -2,
        "USE_CLS": False,
        "USE_CCE": False,
        "MVC": config.mvc,
        "USE_GENERATIVE_TRAINING": True,
    }
