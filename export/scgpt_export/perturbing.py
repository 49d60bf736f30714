"""``perturb``: the graph of a perturbation generator, from the genes of cells to their values after a perturbation.

In: a `Generator`. Out: a module of the bundle's graph. It takes cells of one length, since all cells of a file have the
same genes: nothing is padded, so nothing is masked, and attention needs no memory for all pairs of tokens.
"""

from typing import cast

import torch
from torch import Tensor, nn

from scgpt_export.cuda import FusedLayer, unmasked
from scgpt_export.generator import Generator
from scgpt_export.reference import Layer
from scgpt_export.rewrites import Table

__all__ = ["PerturbGraph"]


class PerturbGraph(nn.Module):
    """``perturb``: ids, values and flags to the predicted values, [the probability that each is not zero,] and a vector
    of each cell, as the heads take it.

    Parameters
    ----------
    model
        The reference model, in eval mode.
    fused
        Whether layers are those of the fused kernels of ONNX Runtime, rather than standard operators.
    """

    @torch.no_grad()
    def __init__(self, model: Generator, fused: bool) -> None:
        super().__init__()
        self.genes = Table(model.encoder(torch.arange(model.config.n_tokens)[None, :])[0])  # (genes, dim)
        self.values = model.value_encoder
        self.flags = Table(model.pert_encoder.weight)
        layers = model.transformer_encoder.layers
        self.layers = nn.ModuleList(FusedLayer(cast(Layer, layer)) for layer in layers) if fused else layers
        self.fused = fused
        self.model = model

    def forward(self, ids: Tensor, values: Tensor, flags: Tensor) -> tuple[Tensor, ...]:
        """Ids, values and flags (cells, tokens) to values (cells, tokens) [P(value > 0)] and vectors (cells, dim)."""
        x = self.genes(ids) + self.values(values) + self.flags(flags)  # (cells, tokens, dim)
        for layer in self.layers:
            x = layer(x, x, unmasked(layer.n_heads)) if self.fused else layer(x)
        value, nonzero = self.model.decoder(x, values)
        cell = self.model.pool(x, values)
        return (value, cell) if nonzero is None else (value, nonzero, cell)
