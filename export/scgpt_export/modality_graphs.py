"""Heads of multi-omic models as graphs: decoders that see the modality of each token, the batch label, or both.

In: a `MultiOmicScGPT`. Out: modules whose inputs and outputs are those of the bundle's graphs ``expression`` and
``mvc``. A cell's own modality is that of its first token, ``<cls>``, so ``mvc`` may be asked about any genes.
"""

from typing import cast

import torch
from torch import Tensor, nn

from scgpt_export.graphs import ExpressionGraph
from scgpt_export.multiomic import MultiOmicScGPT
from scgpt_export.reference import ModelConfig, MultiOmicConfig
from scgpt_export.rewrites import Table

__all__ = ["LabelMvcGraph", "ModalExpressionGraph", "ModalMvcGraph", "answers_from_cell", "multiomic_head"]

Decoded = tuple[Tensor, ...]
"""Values (cells, tokens) [and P(value > 0)]."""


def answers_from_cell(config: ModelConfig) -> bool:
    """Whether values can be told from the cell embedding alone.

    A model that pools other tokens than ``<cls>`` pools their modalities too, which a cell embedding does not tell.
    """
    modal = config.multiomic is not None and config.multiomic.n_modalities > 0
    return config.mvc and (not modal or config.pooling == "cls")


class Beside(nn.Module):
    """What decoders read beside hidden states, cells and genes: the vector of a modality, of a batch label, or the sum.

    Parameters
    ----------
    model
        The reference model, in eval mode.
    """

    @torch.no_grad()
    def __init__(self, model: MultiOmicScGPT) -> None:
        super().__init__()
        told = cast(MultiOmicConfig, model.config.multiomic)
        self.cls = told.cls
        modalities = None
        if model.mod_encoder is not None:
            modalities = Table(model.mod_encoder(torch.arange(told.n_modalities)[None, :])[0])  # (modalities, dim)
        self.modalities = modalities
        self.labels = model.batch_encoder

    def of_tokens(self, mods: Tensor, batch: Tensor | None) -> Tensor:
        """Modalities (cells, tokens) and labels (cells,) to (cells, tokens, dim)."""
        found: Tensor = cast(Table, self.modalities)(mods)
        return found if self.labels is None else found + self.labels(batch).unsqueeze(1)

    def of_cells(self, cell: Tensor, batch: Tensor | None) -> Tensor:
        """Labels of cells, and the modality of ``<cls>``, to (cells, dim); `cell` gives the number of cells."""
        first = None if self.modalities is None else self.modalities.rows[self.cls].expand(cell.shape[0], -1)
        if self.labels is None:
            return cast(Tensor, first)
        labels: Tensor = self.labels(batch)
        return labels if first is None else labels + first


class ModalExpressionGraph(nn.Module):
    """``expression``: hidden states and modalities to the predicted value at every token, in bins."""

    def __init__(self, model: MultiOmicScGPT) -> None:
        super().__init__()
        self.beside = Beside(model)
        self.decoder = model.decoder

    def forward(self, hidden: Tensor, mods: Tensor, batch: Tensor | None = None) -> Decoded:
        """Hidden states (cells, tokens, dim) and modalities (cells, tokens) to what is `Decoded`."""
        value, nonzero = self.decoder(torch.cat([hidden, self.beside.of_tokens(mods, batch)], dim=-1))
        return (value,) if nonzero is None else (value, nonzero)


class ModalMvcGraph(nn.Module):
    """``mvc``: a cell vector, any gene ids and their modalities to the values that the cell's vector predicts."""

    @torch.no_grad()
    def __init__(self, model: MultiOmicScGPT, decoder: nn.Module) -> None:
        super().__init__()
        self.beside = Beside(model)
        self.decoder = decoder
        self.genes = Table(model.encoder(torch.arange(model.config.n_tokens)[None, :])[0])  # (genes, dim)

    def forward(self, cell: Tensor, ids: Tensor, mods: Tensor, batch: Tensor | None = None) -> Decoded:
        """Cell vectors (cells, dim), ids and modalities (cells, tokens) to what is `Decoded`."""
        return self.answer(cell, ids, self.beside.of_tokens(mods, batch), batch)

    def answer(self, cell: Tensor, ids: Tensor, beside: Tensor, batch: Tensor | None) -> Decoded:
        """The same, given what stands beside each gene."""
        genes = torch.cat([self.genes(ids), beside], dim=-1)  # (cells, tokens, 2 dim)
        value, nonzero = self.decoder(torch.cat([cell, self.beside.of_cells(cell, batch)], dim=-1), genes)
        return (value,) if nonzero is None else (value, nonzero)


class LabelMvcGraph(nn.Module):
    """``mvc`` of a multi-omic model whose decoders see batch labels alone, on the gene's side too."""

    def __init__(self, model: MultiOmicScGPT, decoder: nn.Module) -> None:
        super().__init__()
        self.inner = ModalMvcGraph(model, decoder)

    def forward(self, cell: Tensor, ids: Tensor, batch: Tensor) -> Decoded:
        """Cell vectors (cells, dim), ids (cells, tokens) and labels (cells,) to what is `Decoded`."""
        labels = self.inner.beside.of_cells(cell, batch).unsqueeze(1).expand(-1, ids.shape[1], -1)
        return self.inner.answer(cell, ids, labels, batch)


def multiomic_head(model: MultiOmicScGPT, task: str) -> nn.Module:
    """The graph of ``expression`` or ``mvc`` of a multi-omic model."""
    modal = model.mod_encoder is not None
    if task == "mvc" and model.mvc_decoder is not None:
        return (ModalMvcGraph if modal else LabelMvcGraph)(model, model.mvc_decoder)
    return ModalExpressionGraph(model) if modal else ExpressionGraph(model)
