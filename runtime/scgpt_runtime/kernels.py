"""The tokenizer's inner loops: one row of a CSR matrix becomes one cell's tokens.

In: bare arrays and scratch that the caller made, one scratch a thread. Out: ids, codes or values, lengths and
faults. No allocation per cell, no sort of values that are small integers, no knowledge of files or models.
The rules are those of docs/contract.md; all functions stand in this one file because numba notices a change of
a cached function only by its own file.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.jit import cached, inner

__all__ = ["Cells", "Columns", "Rules", "Scratch", "Tokens", "bins_from_draws", "mix64", "scratch", "tokenize_rows"]

Array = NDArray[Any]

# CellFault as plain numbers: this module stands below the one that names them.
NO_COUNTS, NO_KNOWN_GENE, NAN, INFINITE, NEGATIVE, BAD_INDEX = 1, 2, 3, 4, 5, 6

WHOLE_LIMIT = 2048
"""Values that are all whole and smaller than this are counted, not sorted."""

_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11, _S6, _S58 = (np.uint64(s) for s in (30, 27, 31, 11, 6, 58))
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_TIE, _SAMPLE = np.uint64(0x7469655F64726177), np.uint64(0x6B6565705F647277)  # "tie_draw", "keep_drw" in ASCII
_ZERO, _ONE = np.uint64(0), np.uint64(1)
_DIGIT_BITS, _DIGITS = 11, 2048  # three digits hold the 31 bits of a positive float32
_BUCKET_SHIFT, _BUCKETS = np.uint64(54), 1024
_ALL_BITS, _SIGN, _NO_SIGN = np.uint32(0xFFFFFFFF), np.uint32(0x80000000), np.uint32(0x7FFFFFFF)
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
_BIT_OF = np.zeros(64, np.int64)
for _bit in range(64):
    _BIT_OF[((0x03F79D71B4CB0A89 << _bit) & 0xFFFFFFFFFFFFFFFF) >> 58] = _bit


class Cells(NamedTuple):
    """Rows as CSR; read-only, so that numba compiles one version for all callers."""

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    data: NDArray[np.float32]


class Columns(NamedTuple):
    """Known columns in the order of their tokens.

    Attributes
    ----------
    rank
        (n_columns,) int32 place of each column in ascending (id, column), -1 for an unknown gene.
    ids
        (n_known,) uint32 token id at each place.
    repeats
        Whether one token stands in more than one column.
    """

    rank: NDArray[np.int32]
    ids: NDArray[np.uint32]
    repeats: bool


class Rules(NamedTuple):
    """What the settings come to: see `TokenizerSettings`.

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
    cls_id, cls_code, cls_value
        First token of each cell.
    """

    quantiles: NDArray[np.float64]
    seed: np.uint64
    keep: int
    one_sided: bool
    top: bool
    cls_id: int
    cls_code: int
    cls_value: float


class Tokens(NamedTuple):
    """Where the tokens go: cells one behind the other from 0; `codes` or `values` is empty, by the value style."""

    ids: NDArray[np.uint32]
    codes: NDArray[np.uint8]
    values: NDArray[np.float32]
    lengths: NDArray[np.int64]
    faults: NDArray[np.uint8]


class Scratch(NamedTuple):
    """Memory of one thread; nothing in it outlives a row except `present` (all zero) and `stamp`."""

    present: NDArray[np.uint64]  # (n_known / 64,) one bit a place
    by_rank: NDArray[np.float32]  # (n_known,)
    stamp: NDArray[np.int64]  # (n_columns,) last unordered row that used the column
    ids: NDArray[np.uint32]  # from here (longest,)
    values: NDArray[np.float32]
    level: NDArray[np.int32]
    hashes: NDArray[np.uint64]
    kept: NDArray[np.uint8]
    keys: NDArray[np.uint32]  # (2 * longest,) both halves of the radix sort
    order: NDArray[np.int32]  # (2 * longest,)
    primary: NDArray[np.uint64]
    secondary: NDArray[np.uint32]
    merged_indices: NDArray[np.int32]
    merged_data: NDArray[np.float32]
    counts: NDArray[np.int32]  # from here (levels,)
    highest: NDArray[np.int32]
    width: NDArray[np.int32]
    buckets: NDArray[np.int32]  # (3 * _DIGITS,)


def scratch(n_columns: int, n_known: int, longest: int) -> Scratch:
    """Make the memory of one thread for rows of at most `longest` stored values."""
    levels = max(WHOLE_LIMIT, longest) + 1
    return Scratch(
        present=np.zeros(n_known // 64 + 1, np.uint64),
        by_rank=np.empty(n_known, np.float32),
        stamp=np.zeros(n_columns, np.int64),
        ids=np.empty(longest, np.uint32),
        values=np.empty(longest, np.float32),
        level=np.empty(longest, np.int32),
        hashes=np.empty(longest, np.uint64),
        kept=np.empty(longest, np.uint8),
        keys=np.empty(2 * longest, np.uint32),
        order=np.empty(2 * longest, np.int32),
        primary=np.empty(longest, np.uint64),
        secondary=np.empty(longest, np.uint32),
        merged_indices=np.empty(longest, np.int32),
        merged_data=np.empty(longest, np.float32),
        counts=np.empty(levels, np.int32),
        highest=np.empty(levels, np.int32),
        width=np.empty(levels, np.int32),
        buckets=np.empty(3 * _DIGITS, np.int32),
    )


@inner
def mix64(z: np.uint64) -> np.uint64:
    """Finaliser of splitmix64, uint64 to uint64 (Steele, Lea and Flood 2014; constants of Stafford's variant 13)."""
    z = (z ^ (z >> _S30)) * _M1
    z = (z ^ (z >> _S27)) * _M2
    return z ^ (z >> _S31)


@inner
def _stream(key: np.uint64, seed: np.uint64, constant: np.uint64) -> np.uint64:
    """Start of a cell's stream of hashes of one kind."""
    return mix64(key ^ mix64(seed + constant))


@inner
def _hash(stream: np.uint64, token_id: np.uint32) -> np.uint64:
    """Number `token_id` of the splitmix64 stream that starts at `stream`; different ids never give the same."""
    return mix64(stream + (np.uint64(token_id) + _ONE) * _GAMMA)


@inner
def _bin(highest: int, width: int, draw: float) -> int:
    """Bin of a value on `width` edges of which `highest` are not above it (scGPT's preprocess.py, _digitize)."""
    return highest if width <= 1 else math.ceil(highest - draw * width)


# ---- a row's values --------------------------------------------------------------------------------------------------


@inner
def _gather(indices: Array, data: Array, start: int, stop: int, columns: Columns, s: Scratch) -> tuple[int, bool]:
    """Put the row's known non-zero values at their places; returns (fault, whether the columns ascend)."""
    n_columns = len(columns.rank)
    faults, last, ascending, any_value = 0, -1, True, False
    for e in range(start, stop):
        column, value = indices[e], data[e]
        if column < 0 or column >= n_columns:
            faults |= 1 << BAD_INDEX
            continue
        ascending &= column > last
        last = column
        if not (value >= 0.0 and value < np.inf):
            faults |= 1 << (NAN if math.isnan(value) else INFINITE if math.isinf(value) else NEGATIVE)
        if value == 0.0:
            continue
        any_value = True
        place = columns.rank[column]
        if place >= 0:
            s.present[place >> 6] |= _ONE << np.uint64(place & 63)
            s.by_rank[place] = value
    if not any_value:
        faults |= 1 << NO_COUNTS
    return faults, ascending


@inner
def _repeats(indices: Array, start: int, stop: int, stamp: Array, row: int) -> bool:
    """Whether a column occurs twice in the row; indices outside the matrix were refused before."""
    for e in range(start, stop):
        column = indices[e]
        if stamp[column] == row + 1:
            return True
        stamp[column] = row + 1
    return False


@inner
def _sort_pairs(primary: Array, secondary: Array, n: int) -> None:
    """Sort pairs in place, ascending; a shell sort, for few or rare pairs."""
    gap = 1
    while gap < n // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, n):
            p, q, j = primary[i], secondary[i], i
            while j >= gap and (primary[j - gap] > p or (primary[j - gap] == p and secondary[j - gap] > q)):
                primary[j], secondary[j] = primary[j - gap], secondary[j - gap]
                j -= gap
            primary[j], secondary[j] = p, q
        gap //= 3


@inner
def _merge(indices: Array, data: Array, start: int, stop: int, s: Scratch) -> int:
    """Sum repeated columns in float64, smaller values first so that storage order cannot show; returns the length."""
    n = stop - start
    bits = data[start:stop].view(np.uint32)
    for t in range(n):
        s.primary[t] = indices[start + t]
        s.secondary[t] = _ALL_BITS - bits[t] if bits[t] >= _SIGN else bits[t] | _SIGN
    _sort_pairs(s.primary, s.secondary, n)
    sortable = s.secondary[:n]
    for t in range(n):
        sortable[t] = _ALL_BITS - sortable[t] if sortable[t] < _SIGN else sortable[t] & _NO_SIGN
    values = sortable.view(np.float32)
    length, total = 0, 0.0
    for t in range(n):
        total += np.float64(values[t])
        if t + 1 == n or s.primary[t + 1] != s.primary[t]:
            s.merged_indices[length] = s.primary[t]
            s.merged_data[length] = total
            length, total = length + 1, 0.0
    return length


@inner
def _worst(faults: int) -> int:
    for fault in (BAD_INDEX, NAN, INFINITE, NEGATIVE, NO_COUNTS):
        if faults & (1 << fault):
            return fault
    return 0


@inner
def _read_row(row: int, cells: Cells, columns: Columns, s: Scratch) -> int:
    """Find the row's known non-zero values, by place; returns its fault so far."""
    start, stop = cells.indptr[row], cells.indptr[row + 1]
    faults, ascending = _gather(cells.indices, cells.data, start, stop, columns, s)
    if not ascending and not faults & (1 << BAD_INDEX) and _repeats(cells.indices, start, stop, s.stamp, row):
        s.present[:] = 0
        length = _merge(cells.indices, cells.data, start, stop, s)
        faults, ascending = _gather(s.merged_indices, s.merged_data, 0, length, columns, s)
    return _worst(faults)


@inner
def _unpack(columns: Columns, s: Scratch) -> int:
    """Move the values from their places to (id, value) order; returns their number."""
    n = 0
    for word in range(len(s.present)):
        bits = s.present[word]
        while bits != _ZERO:
            low = bits & (~bits + _ONE)
            bits ^= low
            place = (word << 6) + _BIT_OF[(low * _DE_BRUIJN) >> _S58]
            s.ids[n], s.values[n] = columns.ids[place], s.by_rank[place]
            n += 1
        s.present[word] = _ZERO
    if columns.repeats:
        for i in range(1, n):
            value, j = s.values[i], i
            while j > 0 and s.ids[j - 1] == s.ids[i] and s.values[j - 1] > value:
                s.values[j] = s.values[j - 1]
                j -= 1
            s.values[j] = value
    return n


# ---- bins on ranks ---------------------------------------------------------------------------------------------------


@inner
def _levels(n: int, s: Scratch) -> int:
    """Number the distinct values from small to large and count them; returns the number of levels.

    Whole small values are their own levels; some may be empty.
    """
    whole, top = True, np.float32(0.0)
    for t in range(n):
        value = s.values[t]
        top = max(top, value)
        whole &= value == np.floor(value)
    if not whole or top >= WHOLE_LIMIT:
        return _levels_by_sorting(n, s)
    n_levels = int(top) + 1
    s.counts[:n_levels] = 0
    for t in range(n):
        level = int(s.values[t])
        s.level[t] = level
        s.counts[level] += 1
    return n_levels


@inner
def _levels_by_sorting(n: int, s: Scratch) -> int:
    """The same for any positive values: their bits sort as they do (radix sort, 11 bits a pass)."""
    half = len(s.keys) // 2
    bits = s.values[:n].view(np.uint32)
    for t in range(n):
        s.keys[t], s.order[t] = bits[t], t
    source, target = 0, half
    for digit in range(3):
        shift = np.uint32(digit * _DIGIT_BITS)
        buckets = s.buckets[:_DIGITS]
        buckets[:] = 0
        for t in range(n):
            buckets[(s.keys[source + t] >> shift) & np.uint32(_DIGITS - 1)] += 1
        before = 0
        for b in range(_DIGITS):
            before, buckets[b] = before + buckets[b], before
        for t in range(n):
            b = (s.keys[source + t] >> shift) & np.uint32(_DIGITS - 1)
            s.keys[target + buckets[b]], s.order[target + buckets[b]] = s.keys[source + t], s.order[source + t]
            buckets[b] += 1
        source, target = target, source
    level = -1
    for t in range(n):
        if t == 0 or s.keys[source + t] != s.keys[source + t - 1]:
            level += 1
            s.counts[level] = 0
        s.level[s.order[source + t]] = level
        s.counts[level] += 1
    return level + 1


@inner
def _edges(n: int, n_levels: int, quantiles: Array, s: Scratch) -> None:
    """For each level count the edges not above it (`highest`) and those on it (`width`).

    With p = (n - 1) q and i = floor(p), an edge lies on sorted value i if p is i or value i + 1 is the same,
    and else strictly between the two: numpy's linear quantiles, but decided on ranks.
    """
    on, between = s.width, s.highest
    on[:n_levels] = 0
    between[:n_levels] = 0
    level, up_to = 0, s.counts[0]
    for q in quantiles:
        p = (n - 1) * q
        i = int(p)
        while up_to <= i:
            level += 1
            up_to += s.counts[level]
        if p == i or i + 1 < up_to:
            on[level] += 1
        else:
            between[level] += 1
    below = 0
    for level in range(n_levels):
        not_above = below + on[level]
        below = not_above + between[level]
        s.highest[level] = not_above


@cached
def _bins(values: Array, draws: Array, quantiles: Array, bins: Array, s: Scratch) -> None:
    n = len(values)
    s.values[:n] = values
    _edges(n, _levels(n, s), quantiles, s)
    for t in range(n):
        bins[t] = _bin(s.highest[s.level[t]], s.width[s.level[t]], draws[t])


def bins_from_draws(values: Array, draws: Array, quantiles: Array) -> NDArray[np.uint8]:
    """Bin values with given draws, as the original does with those of its global generator.

    Parameters
    ----------
    values
        (n,) float32, all positive and finite, n at least 1.
    draws
        (n,) float64 in [0, 1), one a value.
    quantiles
        (n_edges,) float64 probabilities of the bin edges, ascending from 0.

    Returns
    -------
    (n,) uint8 bins from 1 to n_edges.
    """
    bins = np.empty(len(values), np.uint8)
    _bins(values, draws, quantiles, bins, scratch(0, 0, len(values)))
    return bins


# ---- too many tokens -------------------------------------------------------------------------------------------------


@inner
def _eligible(n: int, n_levels: int, rules: Rules, s: Scratch) -> int:
    """Mark tokens as kept (1), to be drawn (2) or dropped (0); returns how many are to be drawn."""
    s.kept[:n] = 2
    if not rules.top:
        return rules.keep
    level, left = n_levels - 1, rules.keep
    while s.counts[level] <= left:
        left -= s.counts[level]
        level -= 1
    for t in range(n):
        s.kept[t] = 1 if s.level[t] > level else 2 if s.level[t] == level else 0
    return left


@inner
def _draw(n: int, quota: int, stream: np.uint64, s: Scratch) -> None:
    """Of the tokens to be drawn keep the `quota` with the smallest hash; equal hashes: the larger value first."""
    buckets = s.buckets[:_BUCKETS]
    buckets[:] = 0
    for t in range(n):
        if s.kept[t] == 2:
            s.hashes[t] = _hash(stream, s.ids[t])
            buckets[s.hashes[t] >> _BUCKET_SHIFT] += 1
    limit = 0  # the bucket in which the quota ends
    while limit < _BUCKETS - 1 and buckets[limit] <= quota:
        quota -= buckets[limit]
        limit += 1
    n_close = 0
    inverse = s.keys[:n]  # falls where the value rises
    bits = s.values[:n].view(np.uint32)
    for t in range(n):
        if s.kept[t] == 2 and int(s.hashes[t] >> _BUCKET_SHIFT) == limit:
            inverse[t] = _ALL_BITS - bits[t]
            s.primary[n_close], s.secondary[n_close] = s.hashes[t], inverse[t]
            n_close += 1
    _sort_pairs(s.primary, s.secondary, n_close)
    _apply_draw(n, limit, min(quota, n_close), inverse, s)


@inner
def _apply_draw(n: int, limit: int, quota: int, inverse: Array, s: Scratch) -> None:
    """Settle the tokens to be drawn: below bucket `limit` all are kept, in it the first `quota` of the sorted pairs."""
    last = max(quota - 1, 0)
    p, q = s.primary[last], s.secondary[last]
    equal = 0  # how many equal to the last pair are among the quota
    while equal < quota and s.primary[last - equal] == p and s.secondary[last - equal] == q:
        equal += 1
    for t in range(n):
        if s.kept[t] != 2:
            continue
        bucket = int(s.hashes[t] >> _BUCKET_SHIFT)
        if bucket != limit or quota == 0:
            s.kept[t] = bucket < limit
        elif s.hashes[t] == p and inverse[t] == q:
            s.kept[t] = equal > 0
            equal -= 1
        else:
            s.kept[t] = s.hashes[t] < p or (s.hashes[t] == p and inverse[t] < q)


# ---- a cell ----------------------------------------------------------------------------------------------------------


@inner
def _write(n: int, end: int, key: np.uint64, rules: Rules, out: Tokens, s: Scratch) -> int:
    """Write ``<cls>`` and the kept tokens from `end` on; returns the new end."""
    binned = len(rules.quantiles) > 0
    stream = _stream(key, rules.seed, _TIE)
    out.ids[end] = rules.cls_id
    if binned:
        out.codes[end] = rules.cls_code
    else:
        out.values[end] = rules.cls_value
    end += 1
    for t in range(n):
        if s.kept[t] == 0:
            continue
        out.ids[end] = s.ids[t]
        if not binned:
            out.values[end] = s.values[t]
        elif s.width[s.level[t]] <= 1 or rules.one_sided:
            out.codes[end] = s.highest[s.level[t]]
        else:
            draw = np.float64(_hash(stream, s.ids[t]) >> _S11) * 2.0**-53
            out.codes[end] = _bin(s.highest[s.level[t]], s.width[s.level[t]], draw)
        end += 1
    return end


@inner
def _tokenize_row(
    row: int, end: int, cells: Cells, columns: Columns, rules: Rules, out: Tokens, s: Scratch
) -> tuple[int, int]:
    """Tokenize one row; returns its fault and the new end of the output."""
    fault = _read_row(row, cells, columns, s)
    if fault:
        s.present[:] = 0
        return fault, end
    n = _unpack(columns, s)
    if n == 0:
        return NO_KNOWN_GENE, end
    key = _ZERO
    for t in range(n):
        key += mix64(np.uint64(s.ids[t]))
    n_levels = 0
    if len(rules.quantiles) > 0 or (rules.top and n > rules.keep):
        n_levels = _levels(n, s)
        _edges(n, n_levels, rules.quantiles, s)
    if n > rules.keep:
        _draw(n, _eligible(n, n_levels, rules, s), _stream(key, rules.seed, _SAMPLE), s)
    else:
        s.kept[:n] = 1
    return 0, _write(n, end, key, rules, out, s)


@cached
def tokenize_rows(first: int, last: int, cells: Cells, columns: Columns, rules: Rules, out: Tokens, s: Scratch) -> int:
    """Tokenize rows `first` to `last` (not included) into `out`, from its start.

    Parameters
    ----------
    first, last
        Rows of `cells`.
    cells, columns, rules
        See `Cells`, `Columns` and `Rules`.
    out
        Room for the tokens of these rows; `lengths` and `faults` are by row of `cells`.
    s
        Scratch that no other thread uses.

    Returns
    -------
    Number of tokens written.
    """
    end = 0
    for row in range(first, last):
        fault, new_end = _tokenize_row(row, end, cells, columns, rules, out, s)
        out.faults[row], out.lengths[row] = fault, new_end - end
        end = new_end
    return end
