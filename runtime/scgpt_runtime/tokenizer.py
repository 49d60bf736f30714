"""CellBlock in, TokenBlock out: which tokens a cell becomes is decided here and in `kernels`, nowhere else.

The same cell gives the same tokens, whatever block, row, chunk, thread or order of gene columns it comes in:
docs/contract.md has the rules. It knows nothing of gene names, files or models.
"""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.cells import CellBlock, TokenBlock
from scgpt_runtime.errors import CellsError, GenesError, OptionError
from scgpt_runtime.kernels import DIGITS, FEW, WHOLE_LIMIT, tokenize_rows
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.workspace import Cells, Columns, Rules, Tokens, scratch

__all__ = ["tokenize"]

T = TypeVar("T", bound=np.generic)


def tokenize(
    block: CellBlock,
    columns: NDArray[np.int64],
    settings: TokenizerSettings,
    vocabulary_size: int,
    threads: int = 1,
    modalities: NDArray[np.uint8] | None = None,
) -> TokenBlock:
    """Turn cells into tokens.

    Parameters
    ----------
    block
        The cells. A cell that cannot be embedded gets no tokens and a `CellFault`; it never raises.
    columns
        (n_columns,) token id of each column of the matrix, -1 where the gene is unknown.
    settings
        The rules.
    vocabulary_size
        Number of tokens of the model; ids become uint16 where it is at most 65,535, else uint32.
    threads
        Threads to share the rows among; the result does not depend on it.
    modalities
        (vocabulary_size,) modality of each token, for a model of several: each is binned by itself. None: one for all.

    Returns
    -------
    Tokens of each cell in canonical order.

    Raises
    ------
    CellsError
        If the arrays of the block are no CSR matrix.
    GenesError
        If a column's token id lies outside the vocabulary.
    OptionError
        If a setting has a value that no cell could be tokenized with.
    """
    cells = _checked_cells(block)
    places = _places(_checked_columns(columns, vocabulary_size), modalities)
    rules = _rules(settings)
    if rules.top and len(places.ends) > 1:
        raise OptionError("sample is top, and values of several modalities do not compare; expected hash.")

    def part(rows: tuple[int, int]) -> Tokens:
        return _tokenize_rows(*rows, cells, places, rules)

    ranges = _split(cells.indptr, threads)
    if len(ranges) == 1:
        parts = [part(ranges[0])]
    else:
        with ThreadPoolExecutor(len(ranges)) as pool:
            parts = list(pool.map(part, ranges))
    ids = _joined([p.ids for p in parts])
    binned = settings.value_style == "binned"
    offsets = np.zeros(block.n_cells + 1, np.int64)
    np.cumsum(np.concatenate([np.diff(p.ends) for p in parts]), out=offsets[1:])
    return TokenBlock(
        ids=ids.astype(np.uint16) if vocabulary_size <= 0xFFFF else ids,
        values=_joined([p.codes if binned else p.values for p in parts]),
        offsets=offsets,
        faults=np.concatenate([p.faults for p in parts]),
        first_row=block.first_row,
    )


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Arrays one behind the other; one alone as it is."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _tokenize_rows(first: int, last: int, cells: Cells, places: Columns, rules: Rules) -> Tokens:
    stored = np.diff(cells.indptr[first : last + 1])
    each = np.maximum(stored, len(places.ids)) if rules.zeros else stored  # (n_cells,) most tokens of a cell
    room = int(np.minimum(each, rules.keep).sum()) + len(stored)
    binned = len(rules.quantiles) > 0
    out = Tokens(
        ids=np.empty(room, np.uint32),
        codes=np.empty(room if binned else 0, np.uint8),
        values=np.empty(0 if binned else room, np.float32),
        ends=np.zeros(len(stored) + 1, np.int64),
        faults=np.zeros(len(stored), np.uint8),
    )
    memory = scratch(
        len(places.place), len(places.ids), len(places.ends), int(each.max(initial=0)), WHOLE_LIMIT, DIGITS, FEW
    )
    tokenize_rows(first, cells, places, rules, out, memory)
    end = int(out.ends[-1])
    return out._replace(ids=out.ids[:end], codes=out.codes[:end], values=out.values[:end])


def _split(indptr: NDArray[np.int64], parts: int) -> list[tuple[int, int]]:
    """Cut the rows into at most `parts` ranges of about as many stored values."""
    n_cells = len(indptr) - 1
    marks = np.linspace(0, indptr[-1], max(parts, 1) + 1)[1:-1]
    cuts = [0, *np.searchsorted(indptr, marks).clip(0, n_cells).tolist(), n_cells]
    return [(a, b) for a, b in pairwise(cuts) if b > a] or [(0, n_cells)]


def _rules(settings: TokenizerSettings) -> Rules:
    binned = settings.value_style == "binned"
    if settings.max_length < 2:
        raise OptionError(f"max_length is {settings.max_length}; a cell needs at least 2 tokens: <cls> and one gene.")
    if binned and not 2 <= settings.n_bins <= 254:
        raise OptionError(f"n_bins is {settings.n_bins}; value codes are one byte, so it must lie in 2 to 254.")
    if not 0 <= settings.seed < 2**64:
        raise OptionError(f"seed is {settings.seed}; it must lie in 0 to 2**64 - 1.")
    return Rules(
        quantiles=_read_only(np.linspace(0, 1, settings.n_bins - 1) if binned else np.empty(0), np.float64),
        seed=np.uint64(settings.seed),
        keep=settings.max_length - 1,
        one_sided=settings.ties == "one-sided",
        top=settings.sample == "top",
        zeros=settings.include_zeros,
        cls_id=settings.cls_id,
        cls_code=settings.cls_code if binned else 0,
        cls_value=settings.cls_value,
    )


def _places(columns: NDArray[np.int64], modalities: NDArray[np.uint8] | None) -> Columns:
    """Sort the known columns by modality and token id, so that a row is put into canonical order without a sort of its
    own.
    """
    known = np.flatnonzero(columns >= 0)
    ids = columns[known].astype(np.uint32)
    # numpy's stable sort of 16-bit numbers is a radix sort
    order = np.argsort(ids.astype(np.uint16) if ids.max(initial=0) <= 0xFFFF else ids, kind="stable")
    ends = np.array([len(known)], np.int64)
    if modalities is not None and len(known):
        of = modalities[ids[order]]
        order = order[np.argsort(of, kind="stable")]
        ends = np.cumsum(np.unique(of, return_counts=True)[1], dtype=np.int64)
    place = np.full(len(columns), -1, np.int32)
    place[known[order]] = np.arange(len(known), dtype=np.int32)
    ids = ids[order]
    return Columns(
        place=_read_only(place, np.int32),
        ids=_read_only(ids, np.uint32),
        ends=_read_only(ends, np.int64),
        repeats=bool((ids[1:] == ids[:-1]).any()),
    )


def _checked_columns(columns: NDArray[np.int64], vocabulary_size: int) -> NDArray[np.int64]:
    lowest, highest = int(columns.min(initial=-1)), int(columns.max(initial=-1))
    if lowest < -1 or highest >= vocabulary_size:
        raise GenesError(
            f"Columns have token ids from {lowest} to {highest}; expected -1 (unknown) to {vocabulary_size - 1}, the "
            "last token of the vocabulary. Match the genes against the vocabulary of this model."
        )
    return columns


def _checked_cells(block: CellBlock) -> Cells:
    """Refuse what is no CSR matrix; the kernels trust the row pointers but no column number and no value."""
    indptr = np.asarray(block.indptr)
    n_values = len(block.data)
    if len(block.indices) != n_values:
        raise CellsError(f"The matrix has {len(block.indices)} column numbers for {n_values} values; it is damaged.")
    if len(indptr) == 0 or indptr[0] != 0 or indptr[-1] != n_values or bool((indptr[1:] < indptr[:-1]).any()):
        raise CellsError(
            f"The row pointers of the matrix (rows from {block.first_row}) do not rise from 0 to its {n_values} "
            "values; it is damaged. Write the file anew from its source."
        )
    indices = np.asarray(block.indices)
    if indices.dtype != np.int32:
        limit = np.iinfo(np.int32).max
        indices = np.where((indices < 0) | (indices > limit), -1, indices)
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and a fault of the cell
        data = _read_only(block.data, np.float32)
    return Cells(_read_only(indptr, np.int64), _read_only(indices, np.int32), data)


def _read_only(array: NDArray[Any], dtype: type[T]) -> NDArray[T]:
    """View an array the one way that the kernels are compiled for: contiguous, aligned, native and read-only."""
    view = np.require(array, dtype, ["C", "A"]).view()
    view.flags.writeable = False
    return view
