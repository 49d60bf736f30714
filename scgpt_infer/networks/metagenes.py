"""Groups of genes that hang together: edges in, the number of each gene's metagene out, by Leiden. Needs igraph.

The same edges and seed give the same groups. It knows no names.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.networks.similarity import Edges
from scgpt_runtime.errors import MissingDependencyError

__all__ = ["igraph_there", "metagenes", "seeded_igraph"]


def metagenes(edges: Edges, n_genes: int, resolution: float, min_genes: int, seed: int) -> NDArray[np.int32]:
    """Find groups by Leiden with modularity (Traag, Waltman and van Eck 2019, doi:10.1038/s41598-019-41695-z).

    Parameters
    ----------
    edges
        With their cosines as weights.
    n_genes
        Genes, those without an edge counted.
    resolution
        More gives more and smaller groups.
    min_genes
        Smaller groups are none.
    seed
        Of the order in which genes are visited.

    Returns
    -------
    NDArray
        (n_genes,) int32 number of each gene's group from 1, the largest first, groups of one size in the order of
        their first genes; 0 for none.

    Raises
    ------
    MissingDependencyError
        igraph is not installed.
    """
    with seeded_igraph(seed) as igraph:
        graph = igraph.Graph(n_genes, np.stack([edges.source, edges.target], axis=1).tolist())
        found = graph.community_leiden(
            objective_function="modularity",
            weights=edges.cosine.astype(np.float64).tolist(),
            resolution=resolution,
            n_iterations=-1,  # until nothing changes
        )
    return _numbered(np.array(found.membership, np.int64), min_genes)


def igraph_there() -> Any:
    """The package igraph.

    Raises
    ------
    MissingDependencyError
        It is not installed.
    """
    try:
        import igraph
    except ImportError as error:
        raise MissingDependencyError(
            "Metagenes and pictures of networks need igraph, which is not installed: pip install "
            '"scgpt-infer[networks]".'
        ) from error
    return igraph


@contextmanager
def seeded_igraph(seed: int) -> Iterator[Any]:
    """Give igraph, whose draws come from this seed for the time being; errors as for `igraph_there`."""
    igraph = igraph_there()
    igraph.set_random_number_generator(random.Random(seed))
    try:
        yield igraph
    finally:
        igraph.set_random_number_generator(random)  # igraph's own choice


def _numbered(membership: NDArray[np.int64], min_genes: int) -> NDArray[np.int32]:
    _, first, group, sizes = np.unique(membership, return_index=True, return_inverse=True, return_counts=True)
    numbers = np.zeros(len(sizes), np.int32)
    large = np.flatnonzero(sizes >= min_genes)
    order = large[np.lexsort((first[large], -sizes[large]))]
    numbers[order] = np.arange(1, len(order) + 1)
    found: NDArray[np.int32] = numbers[group]
    return found
