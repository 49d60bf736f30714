"""The loops over the genes of a request: names to token ids, and JSON to names and values.

In: text as bytes, `padded`, a `Table`, and arrays that the caller made. Out: token ids, -1 for an unknown gene; `ALIAS`
and below for one that only an alias leads to. It knows no models and no messages. All compiled functions stand in this
file, as numba's cache notices changes of one file only.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.jit import cached, inlined

__all__ = [
    "ALIAS",
    "BROKEN",
    "MANY",
    "ODD",
    "OVERRULED",
    "Table",
    "fill",
    "find_at_offsets",
    "find_prefixed",
    "json_genes",
    "json_numbers",
    "padded",
    "settle_aliases",
]

Array = NDArray[Any]
Words = tuple[np.uint64, np.uint64, np.uint64]

ALIAS: Final = -2
"""The gene of an alias with token t is ``ALIAS - t``, until `settle_aliases` has seen the other genes of its cell."""

OVERRULED: Final = 1 << 30
"""Added to the token of an Ensembl gene id that has another token with one of its versions; no version is looked up
in vain for the others.
"""

ODD: Final = -1
"""JSON that is beyond these loops: escapes, other kinds of values, numbers that float64 alone cannot decide."""

MANY: Final = -2
"""More of them than there is room for."""

BROKEN: Final = -3
"""The text ends inside of a name."""

_UNKNOWN = -1
_SHORT = 24  # bytes of three words
_PADDING = np.zeros(_SHORT, np.uint8)
_MASKS = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)  # of the first n bytes of a word
_ONES, _HIGHEST, _ZEROS, _SIXES, _UPPER = (
    np.uint64(int.from_bytes(8 * byte, "little")) for byte in (b"\1", b"\x80", b"0", b"\6", b"\xf0")
)

_ESCAPE, _COMMA, _OBJECT, _END, _CLOSE, _QUOTE = 92, 44, 123, 125, 93, 34
_MINUS, _PLUS, _POINT, _0, _9, _E, _G, _A, _Z = 45, 43, 46, 48, 57, 69, 71, 65, 90
_LOWER, _SPACE = 32, 32
_ENS = np.uint64(int.from_bytes(b"ENS", "little"))
_ID_DIGITS = 11  # of an Ensembl gene id: ENSG00000182378

_DIGITS = 18  # that fit into an int64
_POWERS = np.array([10.0**power for power in range(23)])  # those that float64 holds exactly
_EXACT = 1 << 53
_TIE, _NEAR = 1 << 28, 8  # of the 29 bits that float64 has beyond float32: a tie, and how near to one is unsure
_LEAST, _MOST = 1e-30, 1e30  # between them float32 has all of its digits


class Table(NamedTuple):
    """Names with their tokens, by hash; open addressing.

    A slot is four words, half a cache line, so that most searches touch one line: three words of the name, then its
    length plus 1 above its token. A name of up to 24 bytes, as all genes have, is the three words itself; of a longer
    one they are its first 8 bytes, a hash, and where it begins in `names`. The last word of an empty slot is 0.

    Attributes
    ----------
    slots
        (2^k, 4) uint64.
    starts
        (n_names + 1,) int64; the name at place i is ``names[starts[i]:starts[i + 1]]``.
    names
        uint8, UTF-8, `padded`.
    tokens
        (n_names,) int32, `ALIAS` and below for aliases, `OVERRULED` and above for some ids.
    """

    slots: Array
    starts: Array
    names: Array
    tokens: Array


def padded(text: Any) -> Array:
    """A copy of bytes as uint8, with zeros behind them, so that loops may read some words from any place."""
    return np.concatenate([np.frombuffer(text, np.uint8), _PADDING])


@inlined
def _eight(text: Array, start: int) -> np.uint64:
    """The eight bytes at a place as a word, the first one lowest."""
    word, at = np.uint64(0), np.uint64(start)  # without a sign: numba then leaves the eight to be one load
    for place in range(8):
        word |= np.uint64(text[at + np.uint64(place)]) << np.uint64(8 * place)
    return word


@inlined
def _words(text: Array, start: int, stop: int) -> Words:
    """The words of a name; the last one of a long name is left out."""
    length = stop - start
    if length > _SHORT:
        second = np.uint64(14695981039346656037)  # FNV-1a
        for place in range(start, stop):
            second = (second ^ np.uint64(text[place])) * np.uint64(1099511628211)
        return _eight(text, start), second, np.uint64(0)
    return (
        _eight(text, start) & _MASKS[min(length, 8)],
        _eight(text, start + 8) & _MASKS[min(max(length - 8, 0), 8)],
        _eight(text, start + 16) & _MASKS[max(length - 16, 0)],
    )


@inlined
def _slot(words: Words, n_slots: int) -> int:
    """Where the search for a name begins."""
    found = (words[0] * np.uint64(0x9E3779B97F4A7C15)) ^ (words[1] * np.uint64(0xC2B2AE3D27D4EB4F))
    found = (found ^ words[2] ^ (found >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return int(found >> np.uint64(32)) & (n_slots - 1)


@cached
def fill(table: Table) -> None:
    """Put all names into empty slots; of equal names the first one counts."""
    slots = table.slots
    for entry in range(len(table.tokens)):
        start, stop = table.starts[entry], table.starts[entry + 1]
        if _found(table.names, start, stop, table) != _UNKNOWN:
            continue
        words = _words(table.names, start, stop)
        slot = _slot(words, len(slots))
        while slots[slot, 3]:
            slot = (slot + 1) & (len(slots) - 1)
        slots[slot, 0], slots[slot, 1] = words[0], words[1]
        slots[slot, 2] = words[2] if stop - start <= _SHORT else np.uint64(start)
        slots[slot, 3] = np.uint64(stop - start + 1) << np.uint64(32) | np.uint64(np.uint32(table.tokens[entry]))


@inlined
def _found(text: Array, start: int, stop: int, table: Table) -> int:
    """Token of exactly this name."""
    words, slots = _words(text, start, stop), table.slots
    slot = _slot(words, len(slots))
    length = np.uint64(stop - start + 1)
    while slots[slot, 3]:
        held = slots[slot, 3]
        if slots[slot, 0] == words[0] and slots[slot, 1] == words[1] and held >> np.uint64(32) == length:
            same = slots[slot, 2] == words[2]
            if stop - start > _SHORT:
                place, begin = 0, np.int64(slots[slot, 2])
                while place < stop - start and text[start + place] == table.names[begin + place]:
                    place += 1
                same = place == stop - start
            if same:
                return int(np.int32(held & np.uint64(0xFFFFFFFF)))
        slot = (slot + 1) & (len(slots) - 1)
    return _UNKNOWN


@inlined
def _are_digits(text: Array, start: int, stop: int) -> bool:
    """Whether digits alone stand between two places."""
    for at in range(start, stop, 8):
        mask = _MASKS[min(stop - at, 8)]
        word = _eight(text, at) & mask | _ZEROS & ~mask
        if word & _UPPER != _ZEROS or (word + _SIXES) & _UPPER != _ZEROS:
            return False
    return True


@inlined
def _without_version(text: Array, start: int, stop: int) -> int:
    """Where the version of an Ensembl gene id begins, with its point; the end of any other name."""
    if stop - start < 17 or _eight(text, start) & _MASKS[3] != _ENS:
        return stop
    at = start + 3
    while at < start + 9 and _A <= text[at] <= _Z:
        at += 1
    point = at + _ID_DIGITS
    if text[at - 1] != _G or point + 1 >= stop or text[point] != _POINT:
        return stop
    return point if _are_digits(text, at, point) and _are_digits(text, point + 1, stop) else stop


@inlined
def _token(text: Array, start: int, stop: int, table: Table) -> int:
    """Token of a gene: by its name, else by its id with or without a version, else by an alias."""
    point, token = _without_version(text, start, stop), _UNKNOWN
    if point < stop:
        token = max(_found(text, start, point, table), _UNKNOWN)  # an alias of the id is none of the id with a version
    if not 0 <= token < OVERRULED:
        exact = _found(text, start, stop, table)
        token = exact if exact >= 0 or token == _UNKNOWN else token
    return token - OVERRULED if token >= OVERRULED else token


@cached
def find_at_offsets(text: Array, offsets: Array, table: Table, tokens: Array) -> None:
    """Tokens of names that lie one behind the other; ``offsets`` has one more than there are names."""
    for place in range(len(tokens)):
        tokens[place] = _token(text, offsets[place], offsets[place + 1], table)


@cached
def find_prefixed(text: Array, table: Table, tokens: Array) -> int:
    """Tokens of names that each have their length in front, four bytes, the lowest first.

    Returns
    -------
    int
        How many there were; `BROKEN` where the text ends inside of one, `MANY` where ``tokens`` is too short.
    """
    at, n, end = 0, 0, len(text) - len(_PADDING)
    while at < end:
        if end - at < 4:
            return BROKEN
        length = int(text[at]) | int(text[at + 1]) << 8 | int(text[at + 2]) << 16 | int(text[at + 3]) << 24
        at += 4
        if length > end - at:
            return BROKEN
        if n == len(tokens):
            return MANY
        tokens[n] = _token(text, at, at + length, table)
        at, n = at + length, n + 1
    return n


@cached
def settle_aliases(indptr: Array, tokens: Array, there: Array) -> None:
    """Give genes that an alias leads to their tokens, or -1 where their cell has the gene under its own name too.

    Parameters
    ----------
    indptr
        (n_cells + 1,) borders of the cells.
    tokens
        As they were found; they are changed.
    there
        (n_tokens,) int64 zeros, as room to work in.
    """
    for cell in range(len(indptr) - 1):
        for place in range(indptr[cell], indptr[cell + 1]):
            if tokens[place] >= 0:
                there[tokens[place]] = cell + 1
        for place in range(indptr[cell], indptr[cell + 1]):
            if tokens[place] <= ALIAS:
                token = ALIAS - tokens[place]
                tokens[place] = _UNKNOWN if there[token] == cell + 1 else token


@inlined
def _skipped(text: Array, at: int) -> int:
    """The next place that is no white space."""
    while text[at] == _SPACE or 9 <= text[at] <= 13:
        at += 1
    return at


@inlined
def _marked(word: np.uint64, letter: int) -> np.uint64:
    """Where bytes of a word are this letter: the lowest bit that is set is the highest one of the first such byte."""
    others = word ^ np.uint64(letter) * _ONES
    return (others - _ONES) & ~others & _HIGHEST


@inlined
def _end_of_string(text: Array, at: int) -> int:
    """Where the string that begins behind a quote ends; -1 for one with escapes."""
    while at + 8 <= len(text):
        word = _eight(text, at)
        marks = _marked(word, _QUOTE) | _marked(word, _ESCAPE)
        if marks:
            while not marks & np.uint64(0xFF):
                marks >>= np.uint64(8)
                at += 1
            return at if text[at] == _QUOTE else -1
        at += 8
    return -1


@inlined
def _number(text: Array, at: int) -> tuple[float, int]:
    """The float32 nearest to the number at a place, and where it ends; -1 where this cannot tell."""
    negative = text[at] == _MINUS
    if negative:
        at += 1
    whole, power, n_digits, begin, after_point = 0, 0, 0, at, False
    while _0 <= text[at] <= _9 or (text[at] == _POINT and not after_point):
        if text[at] == _POINT:
            after_point = True
        else:
            if n_digits < _DIGITS:
                whole = whole * 10 + (text[at] - _0)
                n_digits += whole > 0
                power -= after_point
            else:
                power += not after_point
        at += 1
    if at == begin:
        return 0.0, -1
    if text[at] | _LOWER == _E | _LOWER:
        sign, exponent, at = 1, 0, at + 1
        if text[at] == _MINUS or text[at] == _PLUS:
            sign = -1 if text[at] == _MINUS else 1
            at += 1
        while _0 <= text[at] <= _9:
            exponent = min(exponent * 10 + (text[at] - _0), 9999)
            at += 1
        power += sign * exponent
    value = float(whole)
    if whole and power:
        if not -22 <= power <= 22:
            return 0.0, -1
        value = value / _POWERS[-power] if power < 0 else value * _POWERS[power]
    if whole and not (whole < _EXACT and n_digits < _DIGITS):
        # Three roundings at the most, so that only a float64 beside the middle of two float32 is unsure.
        beyond = np.float64(value).view(np.int64) & (2 * _TIE - 1)
        if abs(beyond - _TIE) <= _NEAR:
            return 0.0, -1
    if whole and not _LEAST < value < _MOST:
        return 0.0, -1
    return -value if negative else value, at


@cached
def json_genes(text: Array, table: Table, tokens: Array, values: Array) -> int:
    """Read an object of names and numbers, or a list of names.

    Parameters
    ----------
    text
        uint8, JSON without errors.
    table
        Of the names.
    tokens, values
        int32 and float32 to fill, as long as each other; a list leaves the values alone.

    Returns
    -------
    int
        How many there were; `ODD` where it has to be read otherwise, `MANY` where there is no room.
    """
    at, n, pairs = _skipped(text, 1), 0, text[0] == _OBJECT
    while text[at] == _QUOTE:
        stop = _end_of_string(text, at + 1)
        if stop < 0:
            return ODD
        if n == len(tokens):
            return MANY
        tokens[n] = _token(text, at + 1, stop, table)
        at = _skipped(text, stop + 1)
        if pairs:
            value, at = _number(text, _skipped(text, at + 1))  # behind the colon
            if at < 0:
                return ODD
            values[n] = value
            at = _skipped(text, at)
        n += 1
        if text[at] == _COMMA:
            at = _skipped(text, at + 1)
    return n if text[at] == (_END if pairs else _CLOSE) else ODD


@cached
def json_numbers(text: Array, values: Array) -> int:
    """Read a list of numbers; as `json_genes`."""
    at, n = _skipped(text, 1), 0
    while text[at] != _CLOSE:
        if n == len(values):
            return MANY
        value, at = _number(text, at)
        if at < 0:
            return ODD
        values[n] = value
        n += 1
        at = _skipped(text, at)
        if text[at] == _COMMA:
            at = _skipped(text, at + 1)
    return n
