"""What fp32 says: the original's own model, one cell at a time, neither padding nor mask nor nested path.

In: tokens, drawn by our tokenizer or by the original itself. Out: unit vectors to compare every side with.

``python -m benchmarks.peers.reference PACKAGE CHECKPOINT CELLS.h5ad|TOKENS.npz VECTORS.npy``; the driver calls it.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.peers.marks import Marks
from benchmarks.peers.original import around, model_of
from benchmarks.peers.tokens import LEVELS, Tokens, drawn, read

__all__ = ["main"]


def main(package: Path, checkpoint: Path, source: Path, output: Path) -> None:
    """Embed tokens."""
    tokens = drawn(source) if source.suffix == ".npz" else read(source, checkpoint)[1]
    task = around(package, Marks(0.0))
    torch.backends.mha.set_fastpath_enabled(False)
    vectors = embed(model_of(task, checkpoint), tokens)
    np.save(output, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


@torch.inference_mode()
def embed(model: torch.nn.Module, tokens: Tokens) -> NDArray[np.float32]:
    """(n_cells, dim) hidden states of ``<cls>``."""
    found = []
    for cell in range(len(tokens.lengths)):
        here = slice(tokens.offsets[cell], tokens.offsets[cell + 1])
        ids = torch.from_numpy(tokens.ids[here])[None]
        values = torch.from_numpy(LEVELS[tokens.codes[here]])[None]
        hidden = model._encode(ids, values, src_key_padding_mask=None)  # type: ignore[operator]
        found.append(hidden[0, 0].numpy())
    return np.array(found)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
