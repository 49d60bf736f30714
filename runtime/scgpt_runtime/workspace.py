"""The arrays that the tokenizer's kernels read, write and work in, as named tuples that numba can take apart.

They are made by the tokenizer, one `Tokens` and one `Scratch` a thread. Arrays that are only read are
read-only views, so that numba compiles one version of the kernels for all callers.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Cells", "Columns", "Rules", "Scratch", "Tokens", "scratch"]


class Cells(NamedTuple):
    """Rows as CSR."""

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    data: NDArray[np.float32]


class Columns(NamedTuple):
    """Known columns in the order of their tokens.

    Attributes
    ----------
    place
        (n_columns,) int32 place of each column in ascending (modality, id, column), -1 for an unknown gene.
    ids
        (n_known,) uint32 token id at each place.
    ends
        (n_modalities,) int64 place behind the last one of each modality that the columns have; at least one.
    repeats
        Whether one token stands in more than one column.
    """

    place: NDArray[np.int32]
    ids: NDArray[np.uint32]
    ends: NDArray[np.int64]
    repeats: bool


class Rules(NamedTuple):
    """What the settings come to.

    Attributes
    ----------
    quantiles
        (n_edges,) float64 probabilities of the bin edges; empty where values are not binned.
    seed
        Seed of all draws.
    keep
        Most tokens of a cell, ``<cls>`` not counted.
    one_sided, top
        The choices ``ties="one-sided"`` and ``sample="top"``.
    zeros
        Known columns without a value are tokens, too.
    cls_id, cls_code, cls_value
        First token of each cell.
    """

    quantiles: NDArray[np.float64]
    seed: np.uint64
    keep: int
    one_sided: bool
    top: bool
    zeros: bool
    cls_id: int
    cls_code: int
    cls_value: float


class Tokens(NamedTuple):
    """Where the tokens of consecutive rows go.

    Attributes
    ----------
    ids
        (room,) uint32.
    codes, values
        (room,) uint8 and float32; one of them is empty, by the value style.
    ends
        (n_rows + 1,) int64; the tokens of row i are ``ends[i]:ends[i + 1]``.
    faults
        (n_rows,) uint8.
    """

    ids: NDArray[np.uint32]
    codes: NDArray[np.uint8]
    values: NDArray[np.float32]
    ends: NDArray[np.int64]
    faults: NDArray[np.uint8]


class Scratch(NamedTuple):
    """Memory of one thread. From row to row only `present` (all zero) and `stamp` keep a meaning."""

    # by place of the gene
    present: NDArray[np.uint64]  # one bit a place
    at_place: NDArray[np.float32]
    stamp: NDArray[np.int64]  # by column: last row that was searched for repeated columns and had this one
    # by token of the cell, or by stored value of the row
    ids: NDArray[np.uint32]
    values: NDArray[np.float32]
    level: NDArray[np.int32]
    hashes: NDArray[np.uint64]
    kept: NDArray[np.uint8]
    keys: NDArray[np.uint32]  # twice as long: the two sides of the radix sort
    order: NDArray[np.int32]  # twice as long
    primary: NDArray[np.uint64]  # pairs to sort
    secondary: NDArray[np.float64]
    merged_indices: NDArray[np.int32]
    merged_data: NDArray[np.float32]
    # by modality
    runs: NDArray[np.int64]  # end of its tokens in the cell
    streams: NDArray[np.uint64]  # where its hashes for ties start
    # by level of each modality: zero, and behind it the distinct values of the cell
    counts: NDArray[np.int32]
    highest: NDArray[np.int32]
    width: NDArray[np.int32]
    # by slot of a table of distinct values
    slots: NDArray[np.uint32]
    named: NDArray[np.int32]
    # by digit
    buckets: NDArray[np.int32]


def scratch(
    n_columns: int, n_known: int, n_modalities: int, longest: int, whole_limit: int, digits: int, few: int
) -> Scratch:
    """Make the memory of one thread for rows of so many stored values or tokens; the kernels say the other sizes.

    Parameters
    ----------
    n_columns, n_known, n_modalities
        Columns of the matrix, places of known ones, and modalities that these are of.
    longest
        Most stored values or tokens of a row.
    whole_limit, digits, few
        The kernels' ``WHOLE_LIMIT``, ``DIGITS`` and ``FEW``.
    """
    levels = n_modalities * (whole_limit + 1) + longest
    return Scratch(
        present=np.zeros(n_known // 64 + 1, np.uint64),
        at_place=np.empty(n_known, np.float32),
        stamp=np.full(n_columns, -1, np.int64),
        ids=np.empty(longest, np.uint32),
        values=np.empty(longest, np.float32),
        level=np.empty(longest, np.int32),
        hashes=np.empty(longest, np.uint64),
        kept=np.empty(longest, np.uint8),
        keys=np.empty(2 * longest, np.uint32),
        order=np.empty(2 * longest, np.int32),
        primary=np.empty(longest, np.uint64),
        secondary=np.empty(longest, np.float64),
        merged_indices=np.empty(longest, np.int32),
        merged_data=np.empty(longest, np.float32),
        runs=np.empty(n_modalities, np.int64),
        streams=np.empty(n_modalities, np.uint64),
        counts=np.empty(levels, np.int32),
        highest=np.empty(levels, np.int32),
        width=np.empty(levels, np.int32),
        slots=np.empty(1 << 10, np.uint32),
        named=np.empty(1 << 10, np.int32),
        buckets=np.empty(digits, np.int32),
    )
