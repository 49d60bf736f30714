"""``embed`` and ``tokens`` in the fused kernels of ONNX Runtime's CUDA provider.

In: a graph module. Out: a module that takes the inputs of its dialect. Every rewrite here is exact in real numbers:

- A bias on the keys adds the same number to all scores of a query, which softmax takes away: it is left out.
- A bias on the values passes attention as it is: it becomes part of the bias of the output projection.
- relu(x W1 + b1) W2 + b2 = max(x W1, -b1) W2 + (b1 W2 + b2): bias and ReLU are one kernel.
- The biases of the output projection and of the feed-forward ride on the LayerNorm that follows, at no cost.
"""

from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor, nn

from scgpt_export.graphs import EmbedGraph, TokensGraph, look_up, stack_of
from scgpt_export.reference import Layer, ModelConfig
from scgpt_export.rewrites import rewrite

__all__ = ["FusedLayer", "PackedGraph", "PaddedGraph", "cuda_graph", "fits"]

_CONTRIB = "com.microsoft"

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys and values (..., tokens, dim) to what each query takes from the values of its own cell."""


class FusedLayer(nn.Module):
    """A post-norm layer in six products, an Add, a Max, and two norms that add what they are given."""

    query: Tensor
    query_bias: Tensor
    key: Tensor
    value: Tensor
    mixed: Tensor
    mixed_bias: Tensor
    inner: Tensor
    floor: Tensor
    outer: Tensor
    outer_bias: Tensor

    @torch.no_grad()
    def __init__(self, layer: Layer) -> None:
        super().__init__()
        attention = layer.self_attn
        self.n_heads = attention.n_heads
        query, key, value = attention.in_proj_weight.chunk(3)
        query_bias, _, value_bias = attention.in_proj_bias.chunk(3)
        for name, weight in (("query", query), ("key", key), ("value", value)):
            self._keep(name, weight.T)  # (D, D)
        self._keep("query_bias", query_bias)
        self._keep("mixed", attention.out_proj.weight.T)  # (D, D)
        self._keep("mixed_bias", _through(attention.out_proj, value_bias))
        self._keep("inner", layer.linear1.weight.T)  # (D, F)
        self._keep("floor", -layer.linear1.bias)
        self._keep("outer", layer.linear2.weight.T)  # (F, D)
        self._keep("outer_bias", _through(layer.linear2, layer.linear1.bias))
        self.norm1, self.norm2 = layer.norm1, layer.norm2

    def _keep(self, name: str, tensor: Tensor) -> None:
        self.register_buffer(name, tensor.detach().clone(memory_format=torch.contiguous_format))

    def mix(self, queries: Tensor, x: Tensor, attend: Attend) -> Tensor:
        """What some tokens take from all tokens of their cell, before the output projection."""
        return attend(queries @ self.query + self.query_bias, x @ self.key, x @ self.value)

    def finish(self, mixed: Tensor, residual: Tensor) -> Tensor:
        """The rest of the layer, for tokens that entered it as ``residual``."""
        h = _skip_norm(mixed @ self.mixed, residual, self.norm1, self.mixed_bias)
        fed = torch.maximum(h @ self.inner, self.floor) @ self.outer
        return _skip_norm(fed, h, self.norm2, self.outer_bias)

    def forward(self, queries: Tensor, x: Tensor, attend: Attend) -> Tensor:
        """The layer's output for some of its tokens, given all."""
        return self.finish(self.mix(queries, x, attend), queries)


def _through(linear: nn.Linear, constant: Tensor) -> Tensor:
    """What becomes of a constant that every row carries into a linear layer, its own bias included."""
    return (linear.weight.double() @ constant.double() + linear.bias.double()).float()


def _skip_norm(x: Tensor, skip: Tensor, norm: nn.LayerNorm, bias: Tensor) -> Tensor:
    """LayerNorm of the sum of two tensors and a bias."""
    (normed,) = torch.onnx.ops.symbolic_multi_out(
        f"{_CONTRIB}::SkipLayerNormalization",
        [x, skip, norm.weight, norm.bias, bias],
        {"epsilon": norm.eps},
        dtypes=[x.dtype],
        shapes=[x.shape],
        version=1,
    )
    return normed


def _padded(n_heads: int, lengths: Tensor) -> Attend:
    """Attention over the first ``lengths`` tokens of each cell."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return _attention("MultiHeadAttention", [q, k, v, None, lengths], n_heads)

    return attend


def _packed(n_heads: int, places: Tensor, offsets: Tensor) -> Attend:
    """Attention of cells that lie one behind the other."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return _attention("PackedMultiHeadAttention", [q, k, v, None, places, offsets], n_heads)

    return attend


def _attention(operator: str, inputs: list[Tensor | None], n_heads: int) -> Tensor:
    q = cast(Tensor, inputs[0])
    return torch.onnx.ops.symbolic(
        f"{_CONTRIB}::{operator}", inputs, {"num_heads": n_heads}, dtype=q.dtype, shape=q.shape, version=1
    )


class PaddedGraph(nn.Module):
    """``cuda-lengths``: cells padded to one length, attention told of their own.

    Where a cell's vector is ``<cls>``'s, the last layer works for that alone.
    """

    def __init__(self, front: TokensGraph, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.front = front
        self.layers = nn.ModuleList(FusedLayer(cast(Layer, layer)) for layer in layers)

    def forward(self, ids: Tensor, values: Tensor, lengths: Tensor, batch: Tensor | None = None) -> Tensor:
        """Ids and values (cells, tokens), lengths (cells,) int32 to cell vectors or to hidden states."""
        front, last = self.front, cast(FusedLayer, self.layers[-1])
        attend = _padded(last.n_heads, lengths)
        x = front.embedded(ids, values, batch)  # (cells, tokens, dim)
        for layer in self.layers[:-1]:
            x = layer(x, x, attend)
        if isinstance(front, EmbedGraph) and front.pooling == "cls":
            return last.finish(last.mix(x[:, :1], x, attend), x[:, :1]).squeeze(1)
        hidden = last.finish(last.mix(x, x, attend), x)
        return front.pooled(hidden, values, lengths) if isinstance(front, EmbedGraph) else hidden


class PackedGraph(nn.Module):
    """``cuda-packed``: cells one behind the other, without padding; ``embed`` of models that answer at ``<cls>``."""

    def __init__(self, front: TokensGraph, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.front = front
        self.layers = nn.ModuleList(FusedLayer(cast(Layer, layer)) for layer in layers)

    def forward(self, ids: Tensor, values: Tensor, offsets: Tensor, places: Tensor, firsts: Tensor) -> Tensor:
        """Cell vectors (cells, dim); what stands at an empty cell means nothing.

        Parameters
        ----------
        ids, values
            (tokens,) of all cells.
        offsets
            (cells + 1,) int32; the tokens of cell i are ``offsets[i]:offsets[i + 1]``.
        places
            (cells, longest) int32; where the tokens lie in a rectangle of padded cells, row by row, then where
            its padding lies.
        firsts
            (cells,) int32; row of each cell's ``<cls>``, any row for an empty cell.
        """
        last = cast(FusedLayer, self.layers[-1])
        attend = _packed(last.n_heads, places, offsets)
        x = self.front.embedded(ids, values, None)  # (tokens, dim)
        for layer in self.layers[:-1]:
            x = layer(x, x, attend)
        # The kernel has as many queries as keys, so only what follows it is done for <cls> alone.
        return last.finish(look_up(last.mix(x, x, attend), firsts), look_up(x, firsts))


def fits(config: ModelConfig, task: str, dialect: str) -> bool:
    """Whether a CUDA dialect can answer a task: the pools need lengths, and norms of batch labels a rectangle of cells.

    Parameters
    ----------
    config
        What the model is.
    task
        ``embed`` or ``tokens``.
    dialect
        One of `scgpt_runtime.manifest.CUDA_DIALECTS`.
    """
    if dialect == "cuda-packed":
        return task == "embed" and config.pooling == "cls" and config.norm is None
    return dialect != "cuda-exact" or config.pooling == "cls"


def cuda_graph(graph: TokensGraph, dialect: str) -> nn.Module:
    """The module of a dialect that is traced; the others are made of the first (`scgpt_export.routes`).

    Parameters
    ----------
    graph
        As it was made, without rewrites; what is wanted of it goes into the module, and it is of no use after.
    dialect
        ``cuda-lengths``, or ``cuda-packed`` for an `EmbedGraph` that pools at ``<cls>``.
    """
    layers = stack_of(graph)
    rewrite(graph)
    graph.stack = nn.Identity()  # its layers are fused here
    return (PackedGraph if dialect == "cuda-packed" else PaddedGraph)(graph, layers)
