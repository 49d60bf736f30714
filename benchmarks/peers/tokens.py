"""A file of cells -> tokens and rectangles, for the peers that are only a model: the PyTorch and plain ONNX sides.

They get this project's own tokenizer, which costs them next to nothing, and so the very tokens that our side
embeds: their answers can be compared with ours cell by cell.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.cells import CellBlock
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.tokenizer import tokenize

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["LEVELS", "Rectangle", "Tokens", "drawn", "read", "rectangles", "write"]

LEVELS = np.array([*range(51), -1, -2], np.float32)
"""Value of each code: the bins, then what a masked and a padded position carry."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Cells as ragged tokens.

    Attributes
    ----------
    ids
        (n_tokens,) int64.
    codes
        (n_tokens,) uint8, an index into `LEVELS`.
    offsets
        (n_cells + 1,) int64.
    pad_id
        Token id of padding.
    """

    ids: NDArray[np.int64]
    codes: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    pad_id: int

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(n_cells,) tokens of each cell."""
        return np.diff(self.offsets)


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Cells padded on the right to the longest of them: (n_cells, length) `ids` and `codes`.

    `lengths` are the true ones, `cells` the positions in the file; both (n_cells,).
    """

    ids: NDArray[np.int64]
    codes: NDArray[np.uint8]
    lengths: NDArray[np.int64]
    cells: NDArray[np.int64]

    @property
    def padding(self) -> NDArray[np.bool_]:
        """(n_cells, length), true behind a cell's tokens."""
        return np.arange(self.ids.shape[1])[None, :] >= self.lengths[:, None]


def read(cells: Path, checkpoint: Path) -> "tuple[AnnData, Tokens]":
    """Read a file and tokenize it with the checkpoint's vocabulary, as the original matches names: exactly."""
    from anndata import read_h5ad
    from scipy.sparse import csr_matrix

    data = read_h5ad(cells)
    vocabulary: dict[str, int] = json.loads((checkpoint / "vocab.json").read_text(encoding="utf-8"))
    matrix = csr_matrix(data.X)
    block = CellBlock(
        matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data.astype(np.float32), 0
    )
    columns = np.array([vocabulary.get(name, -1) for name in data.var_names], np.int64)
    settings = TokenizerSettings(cls_id=vocabulary["<cls>"], pad_id=vocabulary["<pad>"])
    tokens = tokenize(block, columns, settings, len(vocabulary))
    return data, Tokens(tokens.ids.astype(np.int64), tokens.values.astype(np.uint8), tokens.offsets, settings.pad_id)


def drawn(path: Path) -> Tokens:
    """Tokens that the original drew and `benchmarks.peers.original` kept, in the order that it gave them."""
    with np.load(path) as kept:
        ids, values = kept["ids"], kept["values"]
    known = ids >= 0
    offsets = np.concatenate([[0], np.cumsum(known.sum(axis=1))]).astype(np.int64)
    codes = np.where(values == -1, 51, np.where(values == -2, 52, values)).astype(np.uint8)
    return Tokens(ids[known].astype(np.int64), codes[known], offsets, -1)


def rectangles(tokens: Tokens, cells: int, *, by_length: bool = False) -> Iterator[Rectangle]:
    """So many cells at a time, in the order of the file or longest first."""
    order = np.argsort(-tokens.lengths, kind="stable") if by_length else np.arange(len(tokens.lengths))
    for start in range(0, len(order), cells):
        yield _pad(tokens, order[start : start + cells])


def _pad(tokens: Tokens, cells: NDArray[np.int64]) -> Rectangle:
    lengths = tokens.lengths[cells]
    ids = np.full((len(cells), lengths.max()), tokens.pad_id, np.int64)
    codes = np.full(ids.shape, len(LEVELS) - 1, np.uint8)
    for row, cell in enumerate(cells):
        here = slice(tokens.offsets[cell], tokens.offsets[cell + 1])
        ids[row, : lengths[row]], codes[row, : lengths[row]] = tokens.ids[here], tokens.codes[here]
    return Rectangle(ids, codes, lengths, cells)


def write(data: "AnnData", vectors: Vectors, output: Path) -> None:
    """The file again with unit vectors under ``obsm["X_scGPT"]``, as every side leaves it."""
    data.obsm["X_scGPT"] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    data.write_h5ad(output)
