"""``perturb``: the graph of a perturbation generator, from the genes of cells to their values after a perturbation.

In: a `Generator`. Out: a module of the bundle's graph. It takes cells of one length, since all cells of a file have the
same genes: nothing is padded, so nothing is masked. Attention is ONNX Runtime's own operator, which needs no memory for
all pairs of tokens (docs/decisions/0017-long-inputs.md).
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from scgpt_export.generator import Generator
from scgpt_export.reference import Layer
from scgpt_export.rewrites import Table

__all__ = ["FromCellGraph", "PerturbGraph", "gene_table"]


@torch.no_grad()
def gene_table(model: Generator) -> Table:
    """Each gene's embedding with its norm, by token id: ``genes`` as it is, and the first thing in other graphs."""
    return Table(model.encoder(torch.arange(model.config.n_tokens)[None, :])[0])  # (genes, dim)


class PerturbGraph(nn.Module):
    """``perturb``: ids, values and flags to the predicted values, [the probability that each is not zero,] and a vector
    of each cell, as the heads take it.

    Parameters
    ----------
    model
        The reference model, in eval mode.
    """

    def __init__(self, model: Generator) -> None:
        super().__init__()
        self.genes = gene_table(model)
        self.values = model.value_encoder
        self.flags = Table(model.pert_encoder.weight)
        self.model = model

    def forward(self, ids: Tensor, values: Tensor, flags: Tensor) -> tuple[Tensor, ...]:
        """Ids, values and flags (cells, tokens) to values (cells, tokens) [P(value > 0)] and vectors (cells, dim)."""
        x = self.genes(ids) + self.values(values) + self.flags(flags)  # (cells, tokens, dim)
        for layer in self.model.transformer_encoder.layers:
            x = _layer(cast(Layer, layer), x)
        value, nonzero = self.model.decoder(x, values)
        cell = self.model.pool(x, values)
        return (value, cell) if nonzero is None else (value, nonzero, cell)


class FromCellGraph(nn.Module):
    """``mvc``: a cell's vector and any gene ids to the value that the vector predicts for each gene."""

    def __init__(self, model: Generator, decoder: nn.Module) -> None:
        super().__init__()
        self.genes = gene_table(model)
        self.decoder = decoder

    def forward(self, cell: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
        """Cell vectors (cells, dim) and ids (cells, tokens) to values (cells, tokens) [and P(value > 0)]."""
        value, nonzero = self.decoder(cell, self.genes(ids))
        return (value,) if nonzero is None else (value, nonzero)


def _layer(layer: Layer, x: Tensor) -> Tensor:
    """A layer's output for all tokens of cells without padding, (cells, tokens, dim)."""
    attention = layer.self_attn
    mixed = torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention",
        [attention.projected(x, part) for part in range(3)],
        {"num_heads": attention.n_heads},
        dtype=x.dtype,
        shape=x.shape,
        version=1,
    )
    h = layer.norm1(x + attention.out_proj(mixed))
    out: Tensor = layer.norm2(h + layer.linear2(functional.relu(layer.linear1(h))))
    return out
