"""A checkpoint with batch normalisation and vectors of batches as training leaves it: golden weights in a folder."""

import json
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parent / "golden" / "heads" / "dsbn_dab.npz"


def write(folder: Path) -> Path:
    """Write ``args.json``, ``vocab.json`` and ``best_model.pt`` into a new folder."""
    folder.mkdir()
    with np.load(GOLDEN) as arrays:
        state = {
            name.removeprefix("state/"): torch.from_numpy(arrays[name]) for name in arrays if name.startswith("state/")
        }
    torch.save(state, folder / "best_model.pt")
    tokens = [*(f"g{number}" for number in range(200)), "<pad>", "<cls>", "<eoc>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "args.json").write_text(json.dumps({"nheads": 4, "pad_value": -2, "max_seq_len": 60}))
    return folder
