"""Plain PyTorch in bf16, batches padded to their longest cell: what a user would write who knows PyTorch.

PyTorch's own `TransformerEncoder` with the checkpoint's weights, cells in the order of the file, a padding mask.

``python -m benchmarks.peers.plain_torch ...``; the driver calls it.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.peers.marks import Marks
from benchmarks.peers.side import parser
from benchmarks.peers.tokens import LEVELS, read, rectangles, write
from scgpt_export.checkpoint import load
from scgpt_export.reference import ModelConfig, NormedEmbedding, value_encoder

__all__ = ["PlainModel"]


class PlainModel(nn.Module):
    """The embedding path of scGPT out of PyTorch's own layers."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dim = config.dim
        self.encoder = NormedEmbedding(config.n_tokens, config.dim, padding_idx=config.pad_id)
        self.value_encoder = value_encoder(config)
        layer = nn.TransformerEncoderLayer(config.dim, config.n_heads, config.d_hid, 0.0, batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, config.n_layers, enable_nested_tensor=False)

    def forward(self, ids: Tensor, values: Tensor, padding: Tensor) -> Tensor:
        """Embeddings of the cells, (B, D)."""
        x = self.encoder(ids) + self.value_encoder(values)  # (B, L, D)
        hidden: Tensor = self.transformer_encoder(x, src_key_padding_mask=padding)
        return hidden[:, 0]


def build(checkpoint: Path) -> PlainModel:
    """The model with the checkpoint's weights, in bf16."""
    found = load(checkpoint)
    model = PlainModel(found.config)
    model.load_state_dict({name: found.state[name] for name in model.state_dict()})
    return model.to(torch.bfloat16).eval()


def main(arguments: list[str]) -> None:
    """Embed a file."""
    options = parser(__doc__)
    options.add_argument("--batch-size", type=int, default=8)
    options.add_argument("--fast-path", action="store_true", help="let PyTorch's fused layers run")
    given = options.parse_args(arguments)
    marks = Marks(given.started)
    torch.backends.mha.set_fastpath_enabled(given.fast_path)
    model = build(given.checkpoint)
    data, tokens = read(given.cells, given.checkpoint)
    vectors: NDArray[np.float32] = np.empty((len(tokens.lengths), model.dim), np.float32)
    levels = torch.from_numpy(LEVELS).to(torch.bfloat16)
    with torch.inference_mode():
        for batch in rectangles(tokens, given.batch_size):
            values = levels[torch.from_numpy(batch.codes).long()]
            found = model(torch.from_numpy(batch.ids), values, torch.from_numpy(batch.padding))
            vectors[batch.cells] = found.float().numpy()
            marks.answered(len(batch.cells))
    write(data, vectors, given.output)
    marks.facts["batch size"] = str(given.batch_size)
    marks.write(given.report)


if __name__ == "__main__":
    main(sys.argv[1:])
