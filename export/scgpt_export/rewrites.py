"""Exact rewrites of a graph module before it is traced, as an ordered list of named steps.

Each takes a graph module, changes it in place where it applies, and says whether it did. All of them
leave every answer as it is, up to the rounding of float32.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from scgpt_export.graphs import EmbedGraph, GenesGraph, MvcGraph, TokensGraph, ValueLevels, look_up, stack_of
from scgpt_export.reference import Layer

__all__ = ["REWRITES", "ClsStack", "Rewrite", "Table", "rewrite"]


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A named rewrite.

    Attributes
    ----------
    name
        What logs and tests call it.
    apply
        Changes the graph in place; False where it does not apply.
    ensures
        What holds of the graph afterwards, in words.
    """

    name: str
    apply: Callable[[nn.Module], bool]
    ensures: str


class Table(nn.Module):
    """A look-up: row ``index`` of a fixed table."""

    rows: Tensor

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows.detach().clone())

    def forward(self, index: Tensor) -> Tensor:
        """Indices of any shape to rows of the table."""
        return look_up(self.rows, index)


class ClsStack(nn.Module):
    """All layers, but the last one answers for ``<cls>`` alone: only its query, projection and feed-forward.

    Keys and values of the last layer still come from every token.
    """

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.before = layers[:-1]
        self.last = cast(Layer, layers[-1])

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Token embeddings (cells, tokens, dim) to the hidden state of ``<cls>``: (cells, 1, dim)."""
        for layer in self.before:
            x = layer(x, bias)
        return self.last.rows(x[:, :1], x, bias)


@torch.no_grad()
def _gene_table(graph: nn.Module) -> bool:
    if not isinstance(graph, TokensGraph | MvcGraph | GenesGraph) or isinstance(graph.genes, Table):
        return False
    n_genes = graph.genes.get_submodule("embedding").get_parameter("weight").shape[0]
    graph.genes = Table(graph.genes(torch.arange(n_genes)[None, :])[0])  # (genes, dim)
    return True


@torch.no_grad()
def _value_table(graph: nn.Module) -> bool:
    if not isinstance(graph, TokensGraph) or not isinstance(graph.values, ValueLevels):
        return False
    codes = torch.arange(len(graph.values.levels), dtype=torch.uint8)
    graph.values = Table(graph.values(codes[None, :])[0])  # (codes, dim), or (codes,) for scaling
    return True


@torch.no_grad()
def _norm_in_tables(graph: nn.Module) -> bool:
    if not isinstance(graph, TokensGraph) or graph.bn is None or graph.scaling:
        return False
    genes, values, norm = graph.genes, graph.values, graph.bn
    if not isinstance(genes, Table) or not isinstance(values, Table):
        return False
    mean, spread = norm.get_buffer("running_mean").double(), norm.get_buffer("running_var").double()
    scale = norm.weight.double() / torch.sqrt(spread + norm.eps)
    graph.genes = Table((genes.rows * scale).float())
    graph.values = Table((values.rows * scale + (norm.bias.double() - mean * scale)).float())
    graph.bn = None
    return True


def _cls_only(graph: nn.Module) -> bool:
    if not isinstance(graph, EmbedGraph) or graph.pooling != "cls":
        return False
    graph.stack = ClsStack(stack_of(graph))
    return True


REWRITES = (
    Rewrite("gene-table", _gene_table, "a gene's embedding and its LayerNorm are one row of a table"),
    Rewrite("value-table", _value_table, "a value code's embedding is one row of a table"),
    Rewrite("norm-in-tables", _norm_in_tables, "a batch norm for all cells is part of the two tables"),
    Rewrite("cls-only", _cls_only, "the last layer works for <cls> alone"),
)


def rewrite(graph: nn.Module) -> list[str]:
    """Apply all rewrites in order.

    Parameters
    ----------
    graph
        Changed in place.

    Returns
    -------
    Names of the rewrites that applied.
    """
    return [step.name for step in REWRITES if step.apply(graph)]
