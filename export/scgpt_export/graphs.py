"""One module per exported graph, put together from the parts of the reference model.

In: a `ScGPT` and the tokenizer settings. Out: modules whose inputs and outputs are those of the
bundle's graphs. They know the model's parts; they know nothing of ONNX, files or precisions.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from scgpt_export.reference import BATCH_NORM_EPS, DomainNorm, Layer, ScGPT
from scgpt_runtime.manifest import TokenizerSettings

__all__ = [
    "AttentionGraph",
    "ClassifyGraph",
    "EmbedGraph",
    "ExpressionGraph",
    "GenesGraph",
    "MvcGraph",
    "TokensGraph",
    "ValueLevels",
    "look_up",
    "stack_of",
]

# exp(-1e4) is an exact zero in every precision, and -1e4 itself fits float16, which -inf would make NaN of
# when a whole row is masked.
MASKED = -1.0e4


def look_up(rows: Tensor, index: Tensor) -> Tensor:
    """Rows of a table (n, dim) or entries of a list (n,), as one Gather.

    Plain indexing would trace to GatherND, which wants 64-bit indices.
    """
    if rows.dim() == 1:
        return functional.embedding(index.to(torch.int32), rows[:, None]).squeeze(-1)
    return functional.embedding(index.to(torch.int32), rows)


class ValueLevels(nn.Module):
    """The value encoder behind uint8 codes: each code stands for one level."""

    levels: Tensor

    def __init__(self, encoder: nn.Module, levels: tuple[float, ...]) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("levels", torch.tensor(levels, dtype=torch.float32))

    def forward(self, codes: Tensor) -> Tensor:
        """Codes (cells, tokens) uint8 to what the value encoder makes of their levels."""
        encoded: Tensor = self.encoder(look_up(self.levels, codes))
        return encoded


class DomainTables(nn.Module):
    """Batch norm with the statistics of each cell's own batch label, as two tables with a row a label."""

    mean: Tensor
    factor: Tensor

    def __init__(self, norm: DomainNorm) -> None:
        super().__init__()
        variance = torch.stack([bn.get_buffer("running_var") for bn in norm.bns])
        self.register_buffer("mean", torch.stack([bn.get_buffer("running_mean") for bn in norm.bns]))
        self.register_buffer("factor", 1 / torch.sqrt(variance + BATCH_NORM_EPS))

    def forward(self, x: Tensor, batch: Tensor) -> Tensor:
        """Embeddings (cells, tokens, dim) and labels (cells,) to normed embeddings."""
        mean, factor = look_up(self.mean, batch), look_up(self.factor, batch)  # (cells, dim)
        return (x - mean[:, None]) * factor[:, None]


class Stack(nn.Module):
    """All layers, for all tokens."""

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Token embeddings (cells, tokens, dim) to hidden states of the same shape."""
        for layer in self.layers:
            x = layer(x, bias)
        return x


class TokensGraph(nn.Module):
    """``tokens``: ids, values, lengths to the hidden states of all tokens.

    Parameters
    ----------
    model
        The reference model, in eval mode.
    settings
        Tells which level each value code stands for.
    """

    def __init__(self, model: ScGPT, settings: TokenizerSettings) -> None:
        super().__init__()
        self.genes: nn.Module = model.encoder
        binned = settings.value_style == "binned"
        self.values = ValueLevels(model.value_encoder, settings.levels) if binned else model.value_encoder
        self.scaling = model.config.value_style == "scaling"
        self.bn = model.bn
        self.dsbn = None if model.dsbn is None else DomainTables(model.dsbn)
        self.stack: nn.Module = Stack(model.transformer_encoder.layers)

    def embedded(self, ids: Tensor, values: Tensor, batch: Tensor | None) -> Tensor:
        """Sum (or, for scaling, product) of gene and value embedding, batch-normed: (cells, tokens, dim)."""
        genes = self.genes(ids.to(torch.int32))  # (cells, tokens, dim)
        encoded = self.values(values)
        # The scaling encoder passes values through as they are: (cells, tokens).
        x: Tensor = genes * encoded.unsqueeze(-1) if self.scaling else genes + encoded
        if self.bn is not None:
            x = self.bn(x.transpose(1, 2)).transpose(1, 2)
        return x if self.dsbn is None or batch is None else self.dsbn(x, batch)

    def forward(self, ids: Tensor, values: Tensor, lengths: Tensor, batch: Tensor | None = None) -> Tensor:
        """Hidden states (cells, tokens, dim); what stands at padding means nothing."""
        inside = torch.arange(ids.shape[1])[None, :] < lengths[:, None]  # (cells, tokens)
        bias = torch.where(inside, 0.0, MASKED)[:, None, None, :]
        hidden: Tensor = self.stack(self.embedded(ids, values, batch), bias)
        return hidden


class EmbedGraph(TokensGraph):
    """``embed``: the same inputs to one vector a cell, as the heads take it: of unit length for ``w-pool`` only.

    Padding never has a part in it.
    """

    levels: Tensor

    def __init__(self, model: ScGPT, settings: TokenizerSettings) -> None:
        super().__init__(model, settings)
        self.pooling = model.config.pooling
        self.binned = settings.value_style == "binned"
        self.register_buffer("levels", torch.tensor(settings.levels, dtype=torch.float32))

    def forward(self, ids: Tensor, values: Tensor, lengths: Tensor, batch: Tensor | None = None) -> Tensor:
        """Cell vectors (cells, dim)."""
        hidden = super().forward(ids, values, lengths, batch)
        return self.pooled(hidden, values, lengths)

    def pooled(self, hidden: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
        """Hidden states to cell vectors, as the checkpoint was trained to be pooled."""
        if self.pooling == "cls":
            return hidden[:, 0]
        tokens = hidden.shape[1]
        inside = (torch.arange(tokens)[None, :] < lengths[:, None]).to(hidden.dtype)  # (cells, tokens)
        share = inside / lengths[:, None].to(hidden.dtype)
        if self.pooling == "w-pool":
            weights = look_up(self.levels, values) if self.binned else values
            # Constant factors are undone by the norm that follows, and keep sums and squares in float16's range.
            share = share * (weights / self.levels.max())
        pooled = (hidden * share[:, :, None]).sum(1)
        return functional.normalize(pooled, dim=1) if self.pooling == "w-pool" else pooled


class AttentionGraph(TokensGraph):
    """``attention``: the same inputs to the raw attention scores of the last layer, for networks of genes.

    Products of queries and keys as they are: no scale, no softmax, no mask, so padded rows and columns mean nothing.
    Nothing else of the last layer is computed.
    """

    def __init__(self, model: ScGPT, settings: TokenizerSettings) -> None:
        super().__init__(model, settings)
        layers = stack_of(self)
        self.stack = Stack(layers[:-1])
        self.last = cast(Layer, layers[-1]).self_attn

    def forward(self, ids: Tensor, values: Tensor, lengths: Tensor, batch: Tensor | None = None) -> Tensor:
        """Scores (cells, heads, queries, keys)."""
        hidden = super().forward(ids, values, lengths, batch)
        return self.last.heads(hidden, 0) @ self.last.heads(hidden, 1).transpose(-1, -2)


class ClassifyGraph(nn.Module):
    """``classify`` and ``discriminate``: cell vectors to the logits of the classes, or of the batch labels."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.decoder = classifier

    def forward(self, cell: Tensor) -> Tensor:
        """Cell vectors (cells, dim) to logits (cells, classes)."""
        logits: Tensor = self.decoder(cell)
        return logits


class ExpressionGraph(nn.Module):
    """``expression``: hidden states to the predicted value at every token, in bins.

    With explicit zeros a second output is the probability that the value is not zero.
    """

    def __init__(self, model: ScGPT) -> None:
        super().__init__()
        self.model = model

    def forward(self, hidden: Tensor, batch: Tensor | None = None) -> tuple[Tensor, ...]:
        """Hidden states (cells, tokens, dim) to values (cells, tokens) [and P(value > 0)]."""
        value, nonzero = self.model.decoder(self.model.with_batch(hidden, batch))
        return (value,) if nonzero is None else (value, nonzero)


class MvcGraph(nn.Module):
    """``mvc``: a cell vector and any gene ids to the value that the cell's vector predicts for each gene."""

    def __init__(self, model: ScGPT, decoder: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.decoder = decoder
        self.genes: nn.Module = model.encoder

    def forward(self, cell: Tensor, ids: Tensor, batch: Tensor | None = None) -> tuple[Tensor, ...]:
        """Cell vectors (cells, dim) and ids (cells, tokens) to values (cells, tokens) [and P(value > 0)]."""
        genes = self.genes(ids.to(torch.int32))  # (cells, tokens, dim)
        value, nonzero = self.decoder(self.model.with_batch(cell, batch), genes)
        return (value,) if nonzero is None else (value, nonzero)


class GenesGraph(nn.Module):
    """``genes``: gene ids to the model's embedding of each gene, whatever the cell: what ``mvc`` makes queries of.

    With its norm, as the original's tutorial on gene networks takes it (``encoder`` of all ids); before any batch norm.
    """

    def __init__(self, model: ScGPT) -> None:
        super().__init__()
        self.genes: nn.Module = model.encoder

    def forward(self, ids: Tensor) -> Tensor:
        """Ids (genes,) to embeddings (genes, dim)."""
        embedded: Tensor = self.genes(ids.to(torch.int32))
        return embedded


def stack_of(graph: TokensGraph) -> nn.ModuleList:
    """The encoder layers of a graph whose stack has not been rewritten."""
    stack = graph.stack
    if not isinstance(stack, Stack):
        raise TypeError(f"the stack is already rewritten to {type(stack).__name__}")
    return stack.layers
