"""The nouns that flow through the runtime: CellBlock, TokenBlock, Batch or PackedBatch, Result.

Plain arrays with names. They know nothing of files, models or devices; whoever makes one
answers for its shapes.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["AnyBatch", "Batch", "CellBlock", "CellFault", "PackedBatch", "Result", "TokenBlock"]


class CellFault(IntEnum):
    """Why a cell has no result. One bad cell never ends a job: its row is NaN, and this is the reason."""

    NONE = 0
    NO_COUNTS = 1
    NO_KNOWN_GENE = 2
    NAN = 3
    INFINITE = 4
    NEGATIVE = 5
    BAD_INDEX = 6
    NOT_FINITE = 7
    NO_VECTOR = 8
    ALL_HIDDEN = 9
    NO_BATCH = 10

    @property
    def reason(self) -> str:
        """The reason in words, as summaries and tables print it."""
        return _REASONS[self]


_REASONS = {
    CellFault.NONE: "",
    CellFault.NO_COUNTS: "all values are zero",
    CellFault.NO_KNOWN_GENE: "none of its expressed genes is in the vocabulary",
    CellFault.NAN: "a value is NaN",
    CellFault.INFINITE: "a value is infinite",
    CellFault.NEGATIVE: "a value is negative",
    CellFault.BAD_INDEX: "a column index lies outside the matrix",
    CellFault.NOT_FINITE: "the model's answer is not finite",
    CellFault.NO_VECTOR: "it has no vector among those stored with the cells",
    CellFault.ALL_HIDDEN: "all of its known genes are asked for, so none is left to predict from",
    CellFault.NO_BATCH: "it has no batch",
}


@dataclass(frozen=True, slots=True)
class CellBlock:
    """Consecutive cells as CSR, as a reader yields them.

    Attributes
    ----------
    indptr
        (n_cells + 1,) int64, starts at 0.
    indices
        (n_values,) int32 column numbers; need not be sorted, may repeat within a row.
    data
        (n_values,) float32 expression values.
    first_row
        Row of the first cell in the source.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    data: NDArray[np.float32]
    first_row: int

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.indptr) - 1


@dataclass(frozen=True, slots=True)
class TokenBlock:
    """The same cells as ragged tokens, each cell in canonical order: ``<cls>``, then ascending (id, value).

    Attributes
    ----------
    ids
        (n_tokens,) uint16 token ids, uint32 where the vocabulary exceeds 65,535.
    values
        (n_tokens,) uint8 value codes (0 to 50 bins, then the mask and the pad level), or float32
        values where the model does not bin.
    offsets
        (n_cells + 1,) int64; the tokens of cell i are ``offsets[i]:offsets[i + 1]``, none for a bad cell.
    faults
        (n_cells,) uint8 of `CellFault`.
    first_row
        Row of the first cell in the source.
    labels
        (n_cells,) int32 batch label of each cell, for a model that has them; None elsewhere.
    flags
        (n_tokens,) uint8, 1 at a gene that is perturbed, for a model that has them; None elsewhere.
    """

    ids: NDArray[np.uint16] | NDArray[np.uint32]
    values: NDArray[np.uint8] | NDArray[np.float32]
    offsets: NDArray[np.int64]
    faults: NDArray[np.uint8]
    first_row: int
    labels: NDArray[np.int32] | None = None
    flags: NDArray[np.uint8] | None = None

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.offsets) - 1


@dataclass(frozen=True, slots=True)
class Batch:
    """Cells of like length, padded on the right to one length.

    Attributes
    ----------
    ids
        (n_cells, length) token ids, dtype of the `TokenBlock`; the pad id behind a cell's tokens.
    values
        (n_cells, length) value codes or values; the pad level behind a cell's tokens.
    lengths
        (n_cells,) int32 true lengths, ``<cls>`` counted.
    cells
        (n_cells,) int64 positions of the cells in their block.
    labels
        (n_cells,) int32 batch labels, where the `TokenBlock` has them.
    flags
        (n_cells, length) uint8 flags, where the `TokenBlock` has them; 0 behind a cell's tokens.
    """

    ids: NDArray[np.uint16] | NDArray[np.uint32]
    values: NDArray[np.uint8] | NDArray[np.float32]
    lengths: NDArray[np.int32]
    cells: NDArray[np.int64]
    labels: NDArray[np.int32] | None = None
    flags: NDArray[np.uint8] | None = None

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a graph may ask for, by input name."""
        told: dict[str, NDArray[Any]] = {"ids": self.ids, "values": self.values, "lengths": self.lengths}
        if self.labels is not None:
            told["batch"] = self.labels
        if self.flags is not None:
            told["flags"] = self.flags
        return told

    @property
    def n_tokens(self) -> int:
        """Tokens that the graph works on, padding included."""
        return self.ids.size


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Cells of any length one behind the other. The first ``len(cells)`` rows are cells; then come dummy cells of pad
    tokens, which fill the batch up to a size that recurs, then empty ones.

    Attributes
    ----------
    ids
        (n_tokens,) token ids, dtype of the `TokenBlock`.
    values
        (n_tokens,) value codes or values.
    offsets
        (n_rows + 1,) int32; the tokens of row i are ``offsets[i]:offsets[i + 1]``.
    longest
        Most tokens of a row: the width of `places`.
    firsts
        (n_rows,) int32 place of each row's first token, its ``<cls>``; 0 for an empty row.
    cells
        (n_cells,) int64 positions of the cells in their block.
    """

    ids: NDArray[np.uint16] | NDArray[np.uint32]
    values: NDArray[np.uint8] | NDArray[np.float32]
    offsets: NDArray[np.int32]
    longest: int
    firsts: NDArray[np.int32]
    cells: NDArray[np.int64]

    @property
    def places(self) -> NDArray[np.int32]:
        """(n_rows, longest) where the tokens lie in the rectangle of padded rows, counted row by row, then where its
        padding lies; as ONNX Runtime's ``RemovePadding`` gives its ``token_offset``.

        Made when it is asked for: it is larger than all else of a batch.
        """
        every = np.arange((len(self.offsets) - 1) * self.longest, dtype=np.int32)
        starts = range(0, len(every), self.longest)
        ends = [start + length for start, length in zip(starts, np.diff(self.offsets).tolist(), strict=True)]
        real = [every[start:end] for start, end in zip(starts, ends, strict=True)]
        padding = [every[end : start + self.longest] for start, end in zip(starts, ends, strict=True)]
        return np.concatenate([*real, *padding]).reshape(-1, self.longest)

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a graph may ask for, by input name."""
        names = ("ids", "values", "offsets", "places", "firsts")
        return {name: getattr(self, name) for name in names}

    @property
    def lengths(self) -> NDArray[np.int32]:
        """(n_cells,) true lengths, ``<cls>`` counted."""
        return np.diff(self.offsets[: len(self.cells) + 1])

    @property
    def n_tokens(self) -> int:
        """Tokens that the graph works on, those of dummy cells included."""
        return len(self.ids)


AnyBatch = Batch | PackedBatch
"""What a graph answers at a time: both tell `arrays`, `cells`, `lengths` and `n_tokens`."""


@dataclass(frozen=True, slots=True)
class Result:
    """What the model says of a block of cells, in row order.

    Attributes
    ----------
    outputs
        Graph output name to an array whose first axis is the cells of the block; float32, NaN for a bad cell.
    faults
        (n_cells,) uint8 of `CellFault`.
    lengths
        (n_cells,) int32 tokens of each cell, 0 for a bad one.
    first_row
        Row of the first cell in the source.
    tokens
        Where a graph answers each token and nothing makes one row a cell of that: the tokens, and the first axis of
        each output is theirs. None elsewhere.
    """

    outputs: dict[str, NDArray[np.float32]]
    faults: NDArray[np.uint8]
    lengths: NDArray[np.int32]
    first_row: int
    tokens: TokenBlock | None = None

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.faults)
