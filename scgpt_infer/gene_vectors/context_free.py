"""The model's own embedding of each gene, before it has seen any cell.

In: a bundle and token ids. Out: vectors. It reads no cells.
"""

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.bundle import Bundle
from scgpt_runtime.errors import BundleError
from scgpt_runtime.manifest import vector_id
from scgpt_runtime.runners import open_head

__all__ = ["embeddings", "embeddings_id", "precision_for"]

_TASK = "genes"


def precision_for(bundle: Bundle, asked: str) -> str:
    """The precision of the embeddings: fp32 where nothing else was asked for and it is sealed."""
    sealed = bundle.manifest.precisions
    return asked if asked != "auto" else "fp32" if "fp32" in sealed else sealed[0]


def embeddings(bundle: Bundle, ids: NDArray[np.int64], precision: str) -> NDArray[np.float32]:
    """(n_genes, dim) float32 embeddings, with their norm: scGPT's ``encoder`` of these ids.

    Parameters
    ----------
    bundle
        An open bundle.
    ids
        (n_genes,) token ids.
    precision
        A sealed one.

    Raises
    ------
    BundleError
        The bundle was made before there were embeddings of genes.
    ProviderError
        The precision is not sealed.
    """
    if not any(graph.task == _TASK for graph in bundle.manifest.graphs):
        raise BundleError(
            f"Bundle {bundle.manifest.name} has no embeddings of genes: an earlier version of scgpt-infer made it. "
            "Export its checkpoint again: scgpt-infer export CHECKPOINT -o BUNDLE. Vectors of genes in cells need "
            "none: give a file of cells."
        )
    bundle.graph(_TASK, precision)  # a head in another precision would do; these vectors are told to be in this one
    runner = open_head(bundle, _TASK, precision)
    try:
        (found,) = runner.feed({"ids": ids.astype(runner.inputs[0].dtype)}).values()
    finally:
        runner.close()
    vectors: NDArray[np.float32] = found
    return vectors


def embeddings_id(bundle: Bundle, precision: str) -> str:
    """Id that two sets of embeddings must share to be comparable."""
    manifest = bundle.manifest
    return vector_id(
        manifest.weights,
        bundle.sha256("vocab.json"),
        "gene",
        manifest.tokenizer,
        "exact",
        manifest.arithmetic(precision),
    )
