"""The tokenizer's inner loops: one row of a CSR matrix becomes one cell's tokens.

In: bare arrays and scratch that the caller made. Out: ids, codes or values, ends and faults. No allocation per
cell; no sort of values that are small whole numbers, and of scaled or logged counts only of the distinct ones; no
knowledge of files or models. The rules are those of docs/contract.md. All compiled functions stand in this file, as
numba's cache notices changes of one file only.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.jit import cached, inner
from scgpt_runtime.workspace import Cells, Columns, Rules, Scratch, Tokens, scratch

__all__ = ["DIGITS", "FEW", "WHOLE_LIMIT", "bins_from_draws", "tokenize_rows"]

Array = NDArray[Any]

# Constants become part of the machine code, so they stand here too.
WHOLE_LIMIT = 2048
"""Values that are all whole and smaller than this are counted, not sorted."""

DIGITS = 2048
"""Digits of the radix sort: three of 11 bits hold the 31 bits of a positive float32."""

FEW = 128
"""Values of which no more are distinct are found in a table, not sorted."""

# CellFault as plain numbers: this module stands below the one that names them.
NO_COUNTS, NO_KNOWN_GENE, NAN, INFINITE, NEGATIVE, BAD_INDEX = 1, 2, 3, 4, 5, 6

# numba makes a float of uint64 and int64 together, so every number that meets a hash is a uint64.
_ZERO, _ONE = np.uint64(0), np.uint64(1)
_FACTOR_1, _FACTOR_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_TIE, _SAMPLE = np.uint64(0x7469655F64726177), np.uint64(0x6B6565705F647277)  # "tie_draw", "keep_drw" in ASCII
_27, _30, _31, _11, _54, _58 = (np.uint64(shift) for shift in (27, 30, 31, 11, 54, 58))
_BUCKETS = 1 << 10  # of hashes, by their 10 highest bits
_SLOTS = 1 << 10  # by the 10 highest bits of a product
_DIGIT_BITS, _DIGIT_MASK = 11, np.uint32(DIGITS - 1)

# Place of the lowest set bit, by a de Bruijn sequence.
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
_BIT_OF = np.zeros(64, np.int64)
for _bit in range(64):
    _BIT_OF[((0x03F79D71B4CB0A89 << _bit) & 0xFFFFFFFFFFFFFFFF) >> 58] = _bit


# ---- draws -----------------------------------------------------------------------------------------------------------


@inner
def _mix64(z: np.uint64) -> np.uint64:
    """Finaliser of splitmix64 (Steele, Lea and Flood 2014, with the constants of Stafford's variant 13)."""
    z = (z ^ (z >> _30)) * _FACTOR_1
    z = (z ^ (z >> _27)) * _FACTOR_2
    return z ^ (z >> _31)


@inner
def _stream(key: np.uint64, seed: np.uint64, constant: np.uint64) -> np.uint64:
    """Start of a cell's stream of hashes of one kind."""
    return _mix64(key ^ _mix64(seed + constant))


@inner
def _hash(stream: np.uint64, token_id: np.uint32) -> np.uint64:
    """Number `token_id` of the splitmix64 stream that starts at `stream`; different ids never give the same."""
    return _mix64(stream + (np.uint64(token_id) + _ONE) * _GAMMA)


@inner
def _bin(highest: int, width: int, draw: float) -> int:
    """Bin of a value on `width` edges, with `highest` edges not above it (``_digitize`` of scGPT's preprocess.py)."""
    return highest if width <= 1 else math.ceil(highest - draw * width)


# ---- a row's values --------------------------------------------------------------------------------------------------


@inner
def _gather(indices: Array, data: Array, columns: Columns, s: Scratch) -> tuple[int, bool]:
    """Put the known non-zero values at their places; returns the faults as bits, and whether the columns ascend."""
    n_columns = len(columns.place)
    faults, last, ascending = 1 << NO_COUNTS, -1, True
    for e in range(len(indices)):
        column, value = indices[e], data[e]
        if column < 0 or column >= n_columns:
            faults |= 1 << BAD_INDEX
            continue
        ascending &= column > last
        last = column
        if value == 0.0:
            continue
        if not (value > 0.0 and value < np.inf):
            faults |= 1 << (NAN if math.isnan(value) else INFINITE if math.isinf(value) else NEGATIVE)
        faults &= ~(1 << NO_COUNTS)
        place = columns.place[column]
        if place >= 0:
            s.present[place >> 6] |= _ONE << np.uint64(place & 63)
            s.at_place[place] = value
    return faults, ascending


@inner
def _repeats(row: int, indices: Array, stamp: Array) -> bool:
    """Whether a column occurs twice in the row."""
    for column in indices:
        if stamp[column] == row:
            return True
        stamp[column] = row
    return False


@inner
def _sort_pairs(primary: Array, secondary: Array) -> None:
    """Sort pairs in place, ascending; a shell sort, for pairs that are few or rare."""
    n, gap = len(primary), 1
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
def _merge(indices: Array, data: Array, s: Scratch) -> int:
    """Sum repeated columns in float64, small values first so that storage order cannot show; returns the length."""
    n = len(indices)
    for t in range(n):
        s.primary[t], s.secondary[t] = indices[t], data[t]
    _sort_pairs(s.primary[:n], s.secondary[:n])
    length, total = 0, 0.0
    for t in range(n):
        total += s.secondary[t]
        if t + 1 == n or s.primary[t + 1] != s.primary[t]:
            s.merged_indices[length], s.merged_data[length] = s.primary[t], total
            length, total = length + 1, 0.0
    return length


@inner
def _read_row(row: int, cells: Cells, columns: Columns, s: Scratch) -> int:
    """Put the row's known non-zero values at their places; returns its gravest fault."""
    start, stop = cells.indptr[row], cells.indptr[row + 1]
    indices, data = cells.indices[start:stop], cells.data[start:stop]
    faults, ascending = _gather(indices, data, columns, s)
    if not ascending and not faults & (1 << BAD_INDEX) and _repeats(row, indices, s.stamp):
        s.present[:] = _ZERO
        length = _merge(indices, data, s)
        faults, ascending = _gather(s.merged_indices[:length], s.merged_data[:length], columns, s)
    for fault in (BAD_INDEX, NAN, INFINITE, NEGATIVE, NO_COUNTS):
        if faults & (1 << fault):
            return fault
    return 0


@inner
def _count(bits: np.uint64) -> int:
    """Number of bits that are set."""
    n = 0
    while bits != _ZERO:
        bits &= bits - _ONE
        n += 1
    return n


@inner
def _unpack(columns: Columns, s: Scratch) -> int:
    """Take the values from their places in ascending (modality, id, value); returns their number."""
    n, modality, several = 0, 0, len(columns.ends) > 1
    for word in range(len(s.present)):
        bits = s.present[word]
        while several and modality < len(columns.ends) - 1 and columns.ends[modality] >> 6 == word:
            s.runs[modality] = n + _count(bits & ((_ONE << np.uint64(columns.ends[modality] & 63)) - _ONE))
            modality += 1
        while bits != _ZERO:
            low = bits & (~bits + _ONE)
            bits ^= low
            place = (word << 6) + _BIT_OF[(low * _DE_BRUIJN) >> _58]
            s.ids[n], s.values[n] = columns.ids[place], s.at_place[place]
            n += 1
        s.present[word] = _ZERO
    s.runs[modality] = n
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
    """Number the distinct values from small to large and count them; returns how many levels there are.

    Level 0 is that of zeros, of which there are none here. Whole small values are their own levels, so some levels may
    be empty.
    """
    whole, largest = True, np.float32(0.0)
    for t in range(n):
        value = s.values[t]
        largest = max(largest, value)
        whole &= value == np.floor(value)
    if not whole or largest >= WHOLE_LIMIT:
        n_levels = _levels_of_few(n, s)
        return n_levels if n_levels else _levels_by_sorting(n, s)
    n_levels = int(largest) + 1
    s.counts[:n_levels] = 0
    for t in range(n):
        level = int(s.values[t])
        s.level[t] = level
        s.counts[level] += 1
    return n_levels


@inner
def _levels_of_few(n: int, s: Scratch) -> int:
    """Do the same for values of which few are distinct, as scaled or logged counts are; 0 where there are too many."""
    bits = s.values[:n].view(np.uint32)
    s.slots[:] = 0  # no positive value has these bits
    n_levels = 0
    for t in range(n):
        slot = np.int64((np.uint64(bits[t]) * _GAMMA) >> _54)
        while s.slots[slot] != bits[t] and s.slots[slot] != 0:
            slot = (slot + 1) % _SLOTS
        if s.slots[slot] == 0:
            if n_levels == FEW:
                return 0
            s.slots[slot], s.named[slot] = bits[t], n_levels
            s.primary[n_levels], s.secondary[n_levels], s.highest[n_levels] = bits[t], n_levels, 0
            n_levels += 1
        s.level[t] = s.named[slot]
        s.highest[s.level[t]] += 1
    _sort_pairs(s.primary[:n_levels], s.secondary[:n_levels])
    s.counts[0] = 0
    for i in range(n_levels):
        first_name = np.int64(s.secondary[i])
        s.width[first_name], s.counts[i + 1] = i + 1, s.highest[first_name]
    for t in range(n):
        s.level[t] = s.width[s.level[t]]
    return n_levels + 1


@inner
def _levels_by_sorting(n: int, s: Scratch) -> int:
    """Do the same for any positive values: their bits sort as they do."""
    bits = s.values[:n].view(np.uint32)
    for t in range(n):
        s.keys[t], s.order[t] = bits[t], t
    source, target = 0, len(s.keys) // 2
    for digit in range(3):
        shift = np.uint32(digit * _DIGIT_BITS)
        s.buckets[:] = 0
        for t in range(n):
            s.buckets[(s.keys[source + t] >> shift) & _DIGIT_MASK] += 1
        before = 0
        for b in range(DIGITS):
            before, s.buckets[b] = before + s.buckets[b], before
        for t in range(n):
            b = (s.keys[source + t] >> shift) & _DIGIT_MASK
            to = target + s.buckets[b]
            s.keys[to], s.order[to] = s.keys[source + t], s.order[source + t]
            s.buckets[b] += 1
        source, target = target, source
    level, s.counts[0] = 0, 0
    for t in range(source, source + n):
        if t == source or s.keys[t] != s.keys[t - 1]:
            level += 1
            s.counts[level] = 0
        s.level[s.order[t]] = level
        s.counts[level] += 1
    return level + 1


@inner
def _edges(n: int, n_levels: int, quantiles: Array, s: Scratch) -> None:
    """For each level count the edges not above it (`highest`) and those on it (`width`).

    With p = (n - 1) q and i = floor(p), an edge lies on the sorted value i if p is i or value i + 1 equals it,
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


@inner
def _of_modality(first: int, base: int, s: Scratch) -> Scratch:
    """Scratch in which the token `first` and the level `base` are number 0."""
    return Scratch(
        s.present,
        s.at_place,
        s.stamp,
        s.ids,
        s.values[first:],
        s.level[first:],
        s.hashes,
        s.kept,
        s.keys,
        s.order,
        s.primary,
        s.secondary,
        s.merged_indices,
        s.merged_data,
        s.runs,
        s.streams,
        s.counts[base:],
        s.highest[base:],
        s.width[base:],
        s.slots,
        s.named,
        s.buckets,
    )


@inner
def _levels_and_edges(rules: Rules, s: Scratch) -> int:
    """Number levels and count edges for each modality by itself; returns how many levels there are.

    Those of one modality come behind those of the one before, each with a level of zeros.
    """
    if len(s.runs) == 1:
        n_levels = _levels(s.runs[0], s)
        _edges(s.runs[0], n_levels, rules.quantiles, s)
        return n_levels
    first, base = 0, 0
    for last in s.runs:
        n = last - first
        if n > 0:
            own = _of_modality(first, base, s)
            n_levels = _levels(n, own)
            _edges(n, n_levels, rules.quantiles, own)
            if base > 0:
                own.level[:n] += np.int32(base)
            first, base = last, base + n_levels
    return base


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
    values, draws
        (n,) float32, all positive and finite, n at least 1; and (n,) float64 in [0, 1), one a value.
    quantiles
        (n_edges,) float64 probabilities of the bin edges, ascending from 0.

    Returns
    -------
    (n,) uint8 bins from 1 to n_edges.
    """
    bins = np.empty(len(values), np.uint8)
    _bins(values, draws, quantiles, bins, scratch(0, 0, 1, len(values), WHOLE_LIMIT, DIGITS, FEW))
    return bins


# ---- genes without a value -------------------------------------------------------------------------------------------


@inner
def _add_zeros(n: int, columns: Columns, s: Scratch) -> int:
    """Make a token of each known column, at level 0 where the cell has no value in it; returns their number.

    Tokens move to the places of their columns, of columns of one gene to the last ones: zeros come before values.
    """
    n_known, t = len(columns.ids), n - 1
    s.counts[0] = n_known - n
    for place in range(n_known - 1, -1, -1):
        if t >= 0 and s.ids[t] == columns.ids[place]:
            s.values[place], s.level[place] = s.values[t], s.level[t]
            t -= 1
        else:
            s.values[place], s.level[place] = np.float32(0.0), 0
        s.ids[place] = columns.ids[place]
    return n_known


# ---- more tokens than the model takes --------------------------------------------------------------------------------


@inner
def _candidates(n: int, n_levels: int, rules: Rules, s: Scratch) -> int:
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
            buckets[s.hashes[t] >> _54] += 1
    limit = 0  # the bucket in which the quota ends
    while limit < _BUCKETS - 1 and buckets[limit] <= quota:
        quota -= buckets[limit]
        limit += 1
    n_close = 0
    for t in range(n):
        if s.kept[t] == 2:
            bucket = np.int64(s.hashes[t] >> _54)
            s.kept[t] = bucket < limit
            if bucket == limit:
                # Equal hashes are one gene, whose tokens stand by ascending value: the later is the larger.
                s.primary[n_close], s.secondary[n_close] = s.hashes[t], -t
                n_close += 1
    _sort_pairs(s.primary[:n_close], s.secondary[:n_close])
    for i in range(min(quota, n_close)):
        s.kept[-np.int64(s.secondary[i])] = 1


# ---- a cell ----------------------------------------------------------------------------------------------------------


@inner
def _write(end: int, rules: Rules, out: Tokens, s: Scratch) -> int:
    """Write ``<cls>`` and the kept tokens from `end` on; returns the new end."""
    binned = len(rules.quantiles) > 0
    out.ids[end] = rules.cls_id
    if binned:
        out.codes[end] = rules.cls_code
    else:
        out.values[end] = rules.cls_value
    end += 1
    first = 0
    for modality in range(len(s.runs)):
        stream, last = s.streams[modality], s.runs[modality]
        for t in range(first, last):
            if s.kept[t] == 0:
                continue
            out.ids[end] = s.ids[t]
            if not binned:
                out.values[end] = s.values[t]
            elif s.width[s.level[t]] <= 1 or rules.one_sided:
                out.codes[end] = s.highest[s.level[t]]
            else:
                draw = np.float64(_hash(stream, s.ids[t]) >> _11) * 2.0**-53
                out.codes[end] = _bin(s.highest[s.level[t]], s.width[s.level[t]], draw)
            end += 1
        first = last
    return end


@inner
def _key(rules: Rules, s: Scratch) -> np.uint64:
    """Start the hashes of each modality by its own tokens; returns the key of the cell.

    Tokens are those with a value: with zeros all cells of a file have the same ids, and must not draw alike.
    """
    whole, first = _ZERO, 0
    for modality in range(len(s.runs)):
        key = _ZERO
        for t in range(first, s.runs[modality]):
            key += _mix64(np.uint64(s.ids[t]))
        s.streams[modality] = _stream(key, rules.seed, _TIE)
        whole, first = whole + key, s.runs[modality]
    return whole


@inner
def _tokenize_row(row: int, end: int, cells: Cells, columns: Columns, rules: Rules, out: Tokens, s: Scratch) -> Any:
    """Tokenize one row; returns its fault and the new end of the output."""
    fault = _read_row(row, cells, columns, s)
    if fault:
        s.present[:] = _ZERO
        return fault, end
    n = _unpack(columns, s)
    if n == 0:
        return NO_KNOWN_GENE, end
    n_levels = 0
    if len(rules.quantiles) > 0 or (rules.top and (rules.zeros or n > rules.keep)):
        n_levels = _levels_and_edges(rules, s)
    key = _key(rules, s)
    if rules.zeros:
        n = _add_zeros(n, columns, s)
        s.runs[:] = columns.ends
    if n > rules.keep:
        _draw(n, _candidates(n, n_levels, rules, s), _stream(key, rules.seed, _SAMPLE), s)
    else:
        s.kept[:n] = 1
    return 0, _write(end, rules, out, s)


@cached
def tokenize_rows(first: int, cells: Cells, columns: Columns, rules: Rules, out: Tokens, s: Scratch) -> None:
    """Tokenize consecutive rows of `cells`, as many as `out` has ends and faults for, from row `first`.

    Parameters
    ----------
    out
        Room for the tokens of these rows; ``ends[0]`` is where they begin.
    s
        Scratch that no other thread uses.
    """
    for i in range(len(out.faults)):
        out.faults[i], out.ends[i + 1] = _tokenize_row(first + i, out.ends[i], cells, columns, rules, out, s)
