"""The original's way from a row of counts to padded tokens, for the clock: in numpy, or by its own collator.

In: a dense matrix of the genes that the model knows, and their token ids. Out: batches as the model takes them,
int64 ids and float32 values, padded to the longest cell. The numpy rendering is ours, written after the description of
scGPT's ``tasks/cell_emb.py``, ``data_collator.py`` and ``preprocess.py``; a test holds it to their arithmetic.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Item", "by_numpy", "collator", "items", "n_tokens"]

BATCH, N_BINS, PAD_VALUE = 64, 51, -2
Item = tuple[NDArray[np.int64], NDArray[np.float32]]
Rectangles = tuple[NDArray[np.int64], NDArray[np.float32]]


def items(matrix: NDArray[np.float32], ids: NDArray[np.int64], cls_id: int) -> Iterator[Item]:
    """Cells one by one, ``<cls>`` first: what ``__getitem__`` of its data set gives.

    Parameters
    ----------
    matrix
        (n_cells, n_genes).
    ids
        (n_genes,) token id of each gene.
    """
    for row in matrix:
        known = np.nonzero(row)[0]
        genes, values = np.insert(ids[known], 0, cls_id), np.insert(row[known], 0, PAD_VALUE)
        yield genes, values.astype(np.float32)


def by_numpy(cells: list[Item], max_length: int, pad_id: int) -> Rectangles:
    """A batch of cells binned, sampled and padded: what its ``DataCollator`` gives."""
    length = min(max_length, max(len(genes) for genes, _ in cells))
    ids = np.full((len(cells), length), pad_id, np.int64)
    binned = np.full((len(cells), length), PAD_VALUE, np.float32)
    for i, (genes, values) in enumerate(cells):
        values[1:] = binning(values[1:])
        if len(genes) > length:
            kept = np.concatenate([[0], np.random.permutation(len(genes) - 1)[: length - 1] + 1])  # noqa: NPY002
            genes, values = genes[kept], values[kept]
        ids[i, : len(genes)], binned[i, : len(genes)] = genes, values
    return ids, binned


def binning(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bins of the non-zero values of a cell; ties draw from numpy's global generator, as there."""
    edges = np.quantile(values, np.linspace(0, 1, N_BINS - 1))
    high, low = np.digitize(values, edges), np.digitize(values, edges, right=True)
    draws = np.random.rand(len(values))  # noqa: NPY002
    return np.ceil(draws * (low - high) + high).astype(np.float32)


def collator(package: Path, max_length: int, pad_id: int) -> Callable[[list[Item]], Rectangles]:
    """The original's own ``DataCollator``, imported from a folder that holds the package ``scgpt``."""
    import sys

    import torch

    from benchmarks.peers.standins import standing_in

    sys.path.insert(0, str(package))
    with standing_in():
        module = import_module("scgpt.data_collator")
    own: Any = module.DataCollator(
        do_padding=True, pad_token_id=pad_id, pad_value=PAD_VALUE, do_mlm=False, do_binning=True,
        max_length=max_length, sampling=True, keep_first_n_tokens=1,
    )  # fmt: skip

    def collate(cells: list[Item]) -> Rectangles:
        made = own([{"genes": torch.from_numpy(ids), "expressions": torch.from_numpy(values)} for ids, values in cells])
        return made["gene"].numpy(), made["expr"].numpy()

    return collate


def n_tokens(
    matrix: NDArray[np.float32],
    ids: NDArray[np.int64],
    cls_id: int,
    pad_id: int,
    collate: Callable[[list[Item]], Rectangles],
) -> int:
    """Tokenize all cells in batches of 64; returns the tokens, padding not counted."""
    total = 0
    for low in range(0, len(matrix), BATCH):
        genes, _ = collate(list(items(matrix[low : low + BATCH], ids, cls_id)))
        total += int(np.count_nonzero(genes != pad_id))
    return total
