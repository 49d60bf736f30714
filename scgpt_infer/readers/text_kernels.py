"""The loops over the lines of a table and over the entries of a Matrix Market file.

In: text as bytes with padding behind it, and arrays that the caller made. Out: the values that were read, and where a
line is not as it should be, what is wrong and where. It knows no files and no messages. All compiled functions stand in
this file, as numba's cache notices changes of one file only.
"""

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.jit import cached, inner

__all__ = ["PADDING", "Wrong", "market_entries", "table_rows"]

Array = NDArray[Any]

PADDING = b"\n" * 4
"""What has to stand behind the text: so far the loops look ahead."""


class Wrong(IntEnum):
    """What is wrong with a line."""

    NOTHING = 0
    NO_NUMBER = 1
    EMPTY = 2
    TOO_FEW = 3
    TOO_MANY = 4
    OPEN_QUOTE = 5
    OUTSIDE = 6


_NEWLINE, _RETURN, _SPACE, _TAB, _QUOTE, _PERCENT = 10, 13, 32, 9, 34, 37
_PLUS, _MINUS, _POINT, _0, _9 = 43, 45, 46, 48, 57
_LOWER = 32  # the bit between capital and small letters
_A, _E, _F, _I, _N = 97, 101, 102, 105, 110

_NOTHING, _NO_NUMBER, _EMPTY = int(Wrong.NOTHING), int(Wrong.NO_NUMBER), int(Wrong.EMPTY)
_TOO_FEW, _TOO_MANY = int(Wrong.TOO_FEW), int(Wrong.TOO_MANY)
_OPEN_QUOTE, _OUTSIDE = int(Wrong.OPEN_QUOTE), int(Wrong.OUTSIDE)

_SURE, _UNSURE, _NONE = 0, 1, 2
_DIGITS = 18  # that fit into an int64
# With whole numbers and powers of ten that float64 holds exactly, one operation rounds once (Clinger 1990).
_EXACT_WHOLE, _EXACT_POWER = 1 << 53, 22
_POWERS = np.array([float(f"1e{power}") for power in range(309)])
# Three roundings and the digits that were left out move a value by less than this.
_BELOW, _ABOVE = 1 - 2.0**-50, 1 + 2.0**-50


@inner
def _number(text: Array, at: int) -> tuple[float, int, int]:
    """The number that begins at a place: its value, where it ends, and whether it is sure, unsure or none."""
    negative = text[at] == _MINUS
    if negative or text[at] == _PLUS:
        at += 1
    whole, power, n_digits, begin, after_point = 0, 0, 0, at, False
    while True:
        letter = text[at]
        if _0 <= letter <= _9:
            if n_digits < _DIGITS:
                whole = whole * 10 + (int(letter) - _0)
                n_digits += whole > 0
                power -= after_point
            else:
                power += not after_point
        elif letter == _POINT and not after_point:
            after_point = True
        else:
            break
        at += 1
    if at - begin == after_point:
        return _named(text, at, negative) if not after_point else (0.0, at, _NONE)
    if text[at] | _LOWER == _E:
        exponent, at = _exponent(text, at + 1)
        if at < 0:
            return 0.0, begin, _NONE
        power += exponent
    if whole == 0:
        return 0.0, at, _SURE
    if not -308 <= power <= 308:
        return 1.0, at, _UNSURE
    value = whole * _POWERS[power] if power >= 0 else whole / _POWERS[-power]
    value = -value if negative else value
    exact = whole <= _EXACT_WHOLE and -_EXACT_POWER <= power <= _EXACT_POWER
    if exact or np.float32(value * _BELOW) == np.float32(value * _ABOVE):
        return value, at, _SURE
    return value, at, _UNSURE


@inner
def _exponent(text: Array, at: int) -> tuple[int, int]:
    """The whole number that begins at a place, and where it ends; -1 if there is none."""
    negative = text[at] == _MINUS
    if negative or text[at] == _PLUS:
        at += 1
    if not _0 <= text[at] <= _9:
        return 0, -1
    exponent = 0
    while _0 <= text[at] <= _9:
        exponent = min(exponent * 10 + (int(text[at]) - _0), 9999)
        at += 1
    return (-exponent if negative else exponent), at


@inner
def _named(text: Array, at: int, negative: bool) -> tuple[float, int, int]:
    """Numbers that are written as words: NA, NaN and Inf, in capitals or not."""
    a, b, c = text[at] | _LOWER, text[at + 1] | _LOWER, text[at + 2] | _LOWER
    if a == _N and b == _A:
        return np.nan, at + (3 if c == _N else 2), _SURE
    if a == _I and b == _N and c == _F:
        return (-np.inf if negative else np.inf), at + 3, _SURE
    return 0.0, at, _NONE


@inner
def _after_name(text: Array, at: int, delimiter: int) -> int:
    """Where the name ends that begins a line; -1 if its quotes do not close."""
    if text[at] == _QUOTE:
        at += 1
        while text[at] != _NEWLINE and not (text[at] == _QUOTE and text[at + 1] != _QUOTE):
            at += 2 if text[at] == _QUOTE else 1
        if text[at] == _NEWLINE:
            return -1
    while text[at] != delimiter and text[at] != _NEWLINE:
        at += 1
    return at


@inner
def _field(text: Array, at: int, delimiter: int) -> tuple[float, int, int, int, int]:
    """The field that begins at a place: its value, where number and field end, whether it is sure, what is wrong."""
    while text[at] == _SPACE and delimiter != _SPACE:
        at += 1
    if text[at] == delimiter or text[at] == _NEWLINE or text[at] == _RETURN:
        return 0.0, at, at, _NONE, _EMPTY
    quoted = text[at] == _QUOTE
    at += quoted
    begin = at
    value, at, how = _number(text, at)
    closed = text[at] == _QUOTE
    at += closed
    while text[at] == _RETURN or (text[at] == _SPACE and delimiter != _SPACE):
        at += 1
    fine = how != _NONE and closed == quoted and (text[at] == delimiter or text[at] == _NEWLINE)
    return value, begin, at, how, _NOTHING if fine else _NO_NUMBER


@cached
def table_rows(
    text: Array,
    end: int,
    n_values: int,
    delimiter: int,
    counts: Array,
    names: Array,
    columns: Array,
    values: Array,
    unsure: Array,
) -> tuple[int, int, int, int, int, int, int]:
    """Rows, values and unsure values that were read, and the fault: what, lines before it, its begin and column."""
    n_rows = n = n_unsure = n_lines = at = 0
    while at < end:
        begin, n_before, n_unsure_before = at, n, n_unsure
        while text[at] == _SPACE or text[at] == _RETURN:
            at += 1
        if text[at] == _NEWLINE:
            at += 1
            n_lines += 1
            continue
        at = _after_name(text, begin, delimiter)
        if at < 0:
            return n_rows, n_before, n_unsure_before, _OPEN_QUOTE, n_lines, begin, 0
        names[n_rows, 0], names[n_rows, 1] = begin, at
        for column in range(n_values):
            if text[at] != delimiter:
                return n_rows, n_before, n_unsure_before, _TOO_FEW, n_lines, begin, column
            at += 1
            if text[at] == _0 and text[at + 1] == delimiter:  # most of a table
                at += 1
                continue
            value, number, at, how, wrong = _field(text, at, delimiter)
            if wrong != _NOTHING:
                return n_rows, n_before, n_unsure_before, wrong, n_lines, begin, column
            narrow = np.float32(value)
            if narrow != 0 or how == _UNSURE:
                columns[n], values[n] = column, narrow
                if how == _UNSURE:
                    unsure[n_unsure, 0], unsure[n_unsure, 1] = n, number
                    n_unsure += 1
                n += 1
        if text[at] != _NEWLINE:
            return n_rows, n_before, n_unsure_before, _TOO_MANY, n_lines, begin, n_values
        at += 1
        counts[n_rows] = n - n_before
        n_rows += 1
        n_lines += 1
    return n_rows, n, n_unsure, _NOTHING, n_lines, at, 0


@inner
def _skip(text: Array, at: int) -> int:
    """Where the next field begins, or the line ends."""
    while text[at] == _SPACE or text[at] == _TAB or text[at] == _RETURN:
        at += 1
    return at


@inner
def _place(text: Array, at: int) -> tuple[int, int]:
    """The whole number that begins at a place, and where it ends; 0 if there is none."""
    number = 0
    while _0 <= text[at] <= _9:
        number = min(number * 10 + (int(text[at]) - _0), 1 << 40)
        at += 1
    fine = text[at] == _SPACE or text[at] == _TAB or text[at] == _NEWLINE or text[at] == _RETURN
    return (number if fine else 0), at


@cached
def market_entries(
    text: Array,
    end: int,
    n_rows: int,
    n_columns: int,
    has_values: bool,
    rows: Array,
    columns: Array,
    values: Array,
    unsure: Array,
) -> tuple[int, int, int, int, int, int]:
    """Entries and unsure values that were read, and the fault: what, lines before it, its begin and column."""
    n = n_unsure = n_lines = at = 0
    while at < end:
        begin = at
        at = _skip(text, at)
        if text[at] == _NEWLINE or text[at] == _PERCENT:
            while text[at] != _NEWLINE:
                at += 1
            at += 1
            n_lines += 1
            continue
        digits = _0 <= text[at] <= _9
        row, at = _place(text, at)
        at = _skip(text, at)
        digits = digits and _0 <= text[at] <= _9
        column, at = _place(text, at)
        number = at = _skip(text, at)
        value, how = 1.0, _SURE
        if has_values:
            if text[at] == _NEWLINE:
                return n, n_unsure, _TOO_FEW, n_lines, begin, 0
            value, at, how = _number(text, at)
            at = _skip(text, at)
        if not digits or how == _NONE or text[at] != _NEWLINE:
            return n, n_unsure, _NO_NUMBER, n_lines, begin, 0
        if not (1 <= row <= n_rows and 1 <= column <= n_columns):
            return n, n_unsure, _OUTSIDE, n_lines, begin, 0
        rows[n], columns[n], values[n] = row - 1, column - 1, np.float32(value)
        if how == _UNSURE:
            unsure[n_unsure, 0], unsure[n_unsure, 1] = n, number
            n_unsure += 1
        n += 1
        n_lines += 1
        at += 1
    return n, n_unsure, _NOTHING, n_lines, at, 0
