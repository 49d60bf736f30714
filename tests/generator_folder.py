"""A perturbation generator's checkpoint as training leaves it: the original's golden weights in a folder."""

import json
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parent / "golden" / "heads" / "generator.npz"
ARGS = {"nheads": 4, "pad_value": 0, "input_style": "binned", "n_layers_cls": 3, "max_seq_len": 1536}
"""As in the original's tutorial, whose ``args.json`` is that of the pretrained model: binned, though values are not."""


def write(folder: Path, change=None, **args: object) -> Path:
    """Write ``args.json``, ``vocab.json`` and ``best_model.pt`` into a new folder."""
    folder.mkdir()
    with np.load(GOLDEN) as arrays:
        state = {
            key.removeprefix("state/"): torch.from_numpy(arrays[key]) for key in arrays if key.startswith("state/")
        }
    tokens = [*(f"g{number}" for number in range(200)), "<pad>", "<cls>", "<eoc>"]
    (folder / "args.json").write_text(json.dumps(ARGS | args))
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    torch.save(state if change is None else change(state), folder / "best_model.pt")
    return folder
