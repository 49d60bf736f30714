"""Checkpoint folders in scGPT's own layout: weights to start from, and what a training leaves.

In: folders and models. Out: models and folders that ``scgpt-infer export`` takes. Like scGPT's tutorials, a training
starts from the weights that fit and learns the rest; here what was taken is told.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scgpt_export.reference import ModelConfig
from scgpt_runtime.vocab import Vocabulary

DEMO = Path(__file__).resolve().parent.parent / "demo_checkpoint"
"""A scGPT of blood cells, 64 wide, 4 layers, 3,000 genes; its sizes are in `SIZES`."""

SIZES = {"embsize": 64, "nheads": 4, "d_hid": 128, "nlayers": 4, "n_layers_cls": 3, "dropout": 0.0}

GENES = "encoder.embedding.weight"


def demo_genes() -> tuple[str, ...]:
    """Names of the demo model's tokens, by id, the special ones among them."""
    index: dict[str, int] = json.loads((DEMO / "vocab.json").read_text(encoding="utf-8"))
    return tuple(sorted(index, key=index.__getitem__))


@torch.no_grad()
def config(tokens: Vocabulary, **more: Any) -> ModelConfig:
    """A model of the demo model's size, with what else it has (`ModelConfig`)."""
    return ModelConfig(
        n_tokens=len(tokens),
        dim=int(SIZES["embsize"]),
        n_heads=int(SIZES["nheads"]),
        d_hid=int(SIZES["d_hid"]),
        n_layers=int(SIZES["nlayers"]),
        pad_id=tokens.index["<pad>"],
        **more,
    )


def start(model: nn.Module, tokens: Vocabulary, folder: Path = DEMO) -> str:
    """Give a model the weights of a checkpoint that fit: those of its genes by name, others by name and shape.

    Parameters
    ----------
    model
        Of the width of the checkpoint. What finds no like stays as it was.
    tokens
        The model's vocabulary.
    folder
        With ``vocab.json`` and ``best_model.pt``.

    Returns
    -------
    What was taken and what starts at random, in a line.
    """
    state: dict[str, torch.Tensor] = torch.load(folder / "best_model.pt", weights_only=True)
    theirs: dict[str, int] = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    own = model.state_dict()
    known = [(number, theirs[name]) for number, name in enumerate(tokens.tokens) if name in theirs]
    if known and own[GENES].shape[1] == state[GENES].shape[1]:
        mine, those = (torch.tensor(numbers) for numbers in zip(*known, strict=True))
        own[GENES][mine] = state[GENES][those]  # the tensors of a state_dict are the model's own
    fits = [name for name in own if name != GENES and name in state and state[name].shape == own[name].shape]
    for name in fits:
        own[name].copy_(state[name])
    fresh = [name for name in own if name not in fits and name != GENES]
    of_genes = f"{len(known):,} of {len(tokens):,} tokens"
    return f"from {folder.name}: {of_genes}, {len(fits)} tensors; {len(fresh)} tensors start at random"


def write(
    folder: Path,
    model: nn.Module,
    tokens: Vocabulary,
    args: Mapping[str, Any],
    **lists: Sequence[str] | Mapping[str, Any],
) -> None:
    """Write a checkpoint.

    Parameters
    ----------
    folder
        Made where it is not there.
    model
        The weights.
    tokens
        The vocabulary.
    args
        Fields of ``args.json``, before those that every checkpoint of ours has.
    lists
        Further JSON files by name, such as ``labels=[...]`` and ``batches=[...]``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    common = {
        **SIZES,
        "pad_token": "<pad>",
        "pad_value": -2,
        "mask_value": -1,
        "input_style": "binned",
        "input_emb_style": "continuous",
        "n_bins": 51,
        "fast_transformer": False,
    }
    for name, content in ({"args": common | dict(args), "vocab": tokens.index} | lists).items():
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    torch.save({name: weight.clone() for name, weight in model.state_dict().items()}, folder / "best_model.pt")
