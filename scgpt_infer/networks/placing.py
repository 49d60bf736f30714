"""Where the genes of a picture lie: a graph in, places out. Needs igraph.

Each piece of the graph that hangs together is laid out by itself, and the pieces stand in rows, the highest first. The
same graph gives the same places on one machine.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.networks.metagenes import seeded_igraph

__all__ = ["Places", "places"]

Places = NDArray[np.float64]

_SEED = 0
_GAP = 1.35
_WIDE = 1.5  # of the whole, times its height
_NAME = np.array([1.05, 0.6])
"""Room that a gene takes with its name."""
_PUSHES = 300


def places(n_genes: int, ends: NDArray[np.int64], weights: NDArray[np.float64]) -> Places:
    """(n_genes, 2) places, about one unit from gene to gene.

    Parameters
    ----------
    n_genes
        Genes; each has an edge.
    ends
        (n_edges, 2) genes of each edge.
    weights
        (n_edges,) above 0; what is joined by more lies nearer.
    """
    with seeded_igraph(_SEED) as igraph:
        graph = igraph.Graph(n_genes, ends.tolist(), edge_attrs={"weight": weights.tolist()})
        pieces = [np.array(piece) for piece in graph.connected_components()]
        laid = [_laid(graph.induced_subgraph(piece.tolist())) for piece in pieces]
    found = np.zeros((n_genes, 2))
    order = sorted(range(len(pieces)), key=lambda place: -np.ptp(laid[place][:, 1]))
    for place, corner in zip(order, _rows([laid[place] for place in order]), strict=True):
        found[pieces[place]] = corner + laid[place]
    return found


def _laid(graph: Any) -> Places:
    """One piece, its lower left corner at (0, 0) and as large as its number of genes asks for."""
    inside = np.array(graph.layout_fruchterman_reingold(weights="weight", niter=2000, grid=False).coords)
    inside -= inside.mean(axis=0)
    axes = np.linalg.svd(inside, full_matrices=False)[2]  # the long side lies flat, whatever side the layout chose
    axes *= np.where(np.abs(axes).max(axis=1) == axes.max(axis=1), 1, -1)[:, None]
    inside = inside @ axes.T
    inside = _apart(inside * (1.15 * np.sqrt(len(inside)) / max(np.ptp(inside, axis=0).max(), 1e-9)))
    laid: Places = inside - inside.min(axis=0)
    return laid


def _apart(inside: Places) -> Places:
    """Push genes apart whose names would cover each other, a little at a time."""
    found: Places = inside / _NAME
    for _ in range(_PUSHES):
        steps = found[:, None] - found[None]  # (n, n, 2) from each other gene
        distance = np.sqrt((steps**2).sum(axis=2))
        np.fill_diagonal(distance, 1)
        if distance.min() >= 1:
            break
        push = np.where(distance < 1, (1 - distance) / np.maximum(distance, 1e-3), 0)
        found = found + 0.3 * (steps * push[:, :, None]).sum(axis=1)
    pushed: Places = found * _NAME
    return pushed


def _rows(laid: list[Places]) -> list[Places]:
    """Lower left corner of each piece, in rows from left to right and from the top down."""
    sizes = [inside.max(axis=0) + _GAP for inside in laid]
    width = max(np.sqrt(sum(size.prod() for size in sizes) * _WIDE), max(size[0] for size in sizes))
    corners, left, top, height = [], 0.0, 0.0, 0.0
    for size in sizes:
        if left and left + size[0] > width:
            left, top, height = 0.0, top - height, 0.0
        corners.append(np.array([left, top - size[1]]))
        left, height = left + size[0], max(height, size[1])
    return corners
