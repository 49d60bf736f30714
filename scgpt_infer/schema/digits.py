"""Numbers as JSON, many at a time: float32 in, the fewest decimal digits that bring each back out.

In: bare arrays. Out: ASCII. The digits are those of numpy (Steele and White 1990, as Dragon4 finds them); how they are
laid out does not depend on its version. It knows neither cells nor documents. Both compiled functions stand in this
file, as numba's cache notices changes of one file only.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.jit import cached, inner

__all__ = ["rows"]

Array = NDArray[Any]

_MOST_DIGITS = 9  # of a float32
_WIDEST = 18  # "-1.23456789e-45" and ", " behind it
_POWERS = np.array([10.0**power for power in range(23)])  # the powers of ten that float64 holds exactly
_WHOLES = np.array([10**power for power in range(_MOST_DIGITS + 1)])

_UNSURE = -1
_TIE, _NEAR = 1 << 28, 4  # of the 29 bits that float64 has beyond float32: a tie, and how near to one is unsure


def rows(values: NDArray[np.float32]) -> list[str]:
    """The numbers of each row with commas between them, ``null`` for what is not finite.

    Parameters
    ----------
    values
        (n_rows, n_columns) float32, at least one column.
    """
    values = np.ascontiguousarray(values, np.float32)
    flat = values.reshape(-1).view()
    flat.flags.writeable = False  # whether it was or not: each is compiled on its own
    digits, powers = np.empty(flat.size, np.int64), np.empty(flat.size, np.int64)
    shortest(np.abs(flat), digits, powers)
    for place in np.flatnonzero(digits == _UNSURE).tolist():
        digits[place], powers[place] = _by_numpy(flat[place])
    text = np.empty(flat.size * _WIDEST, np.uint8)
    end = spell(flat, digits, powers, values.shape[1], text)
    return text[:end].tobytes().decode("ascii").split("\n")[:-1]


def _by_numpy(value: np.float32) -> tuple[int, int]:
    """Digits as a whole number, and the power of ten of the last one."""
    mantissa, power = np.format_float_scientific(abs(value), unique=True, trim="-").split("e")
    whole, _, fraction = mantissa.partition(".")
    return int(whole + fraction), int(power) - len(fraction)


@inner
def _brings_back(value: float, digits: int, power: int) -> int:
    """Whether decimal digits are nearest to this float32 of all: 1, 0, or -1 for unsure."""
    found = digits / _POWERS[-power] if power < 0 else digits * _POWERS[power]
    beyond = np.float64(found).view(np.int64) & (2 * _TIE - 1)
    if abs(beyond - _TIE) <= _NEAR:
        return -1
    return 1 if np.float32(found) == np.float32(value) else 0


@inner
def _first_power(value: float) -> int:
    """Power of ten of the first digit of a value; `_UNSURE` times 100 where the exact powers do not reach."""
    if value >= 1.0:
        power = 0
        while power < 22 and value >= _POWERS[power + 1]:
            power += 1
        return power if power < 22 else 100 * _UNSURE
    power = -1
    while power > -13 and value * _POWERS[-power] < 1.0:
        power -= 1
    return power if power > -13 else 100 * _UNSURE


@inner
def _shortest(value: float) -> tuple[int, int]:
    """Digits and the power of the last one; the digits are `_UNSURE` where float64 cannot decide."""
    if value == 0.0:
        return 0, 0
    first = _first_power(value)
    # At a power of two the gap below is half of that above, and numpy rounds by another rule.
    if first == 100 * _UNSURE or np.float32(value).view(np.int32) & 0x7FFFFF == 0:
        return _UNSURE, 0
    found, found_power, n = _UNSURE, 0, _MOST_DIGITS - 1
    while n <= _MOST_DIGITS:
        power = first - n + 1
        scaled = value * _POWERS[-power] if power <= 0 else value / _POWERS[power]
        digits = np.rint(scaled)
        back = _brings_back(value, digits, power)
        if back < 0 or abs(abs(scaled - digits) - 0.5) < 1e-6:  # another digit could be the nearer one
            return _UNSURE, 0
        if not back and found != _UNSURE:
            break
        if back:
            found, found_power = int(digits), power
            if n == _MOST_DIGITS or found % 10 == 0:  # digits but these are too far away
                break
        n += -1 if back else 1
    while found > 0 and found % 10 == 0:
        found, found_power = found // 10, found_power + 1
    return found, found_power


@cached
def shortest(values: Array, digits: Array, powers: Array) -> None:
    """Find the digits of numbers.

    Parameters
    ----------
    values
        (n,) float32, none below zero.
    digits, powers
        (n,) int64 to fill: a number is ``digits * 10 ** powers``; the digits are -1 where it has to be found otherwise.
    """
    for place in range(len(values)):
        value = values[place]
        digits[place], powers[place] = _shortest(float(value)) if np.isfinite(value) else (0, 0)


@inner
def _put_whole(number: int, n_digits: int, text: Array, at: int) -> int:
    for place in range(at + n_digits - 1, at - 1, -1):
        text[place] = 48 + number % 10
        number //= 10
    return at + n_digits


@inner
def _put(digits: int, power: int, text: Array, at: int) -> int:
    """Spell one number; returns where it ends."""
    n = 1
    while n < _MOST_DIGITS and digits >= _WHOLES[n]:
        n += 1
    first = power + n - 1
    if digits and not -4 <= first < 6:  # 1.5e-05
        at = _put_whole(digits // _WHOLES[n - 1], 1, text, at)
        if n > 1:
            text[at] = 46
            at = _put_whole(digits % _WHOLES[n - 1], n - 1, text, at + 1)
        text[at], text[at + 1] = 101, 45 if first < 0 else 43
        return _put_whole(abs(first), 2, text, at + 2)
    if power >= 0:  # 1200.0
        at = _put_whole(digits * _WHOLES[power], n + power, text, at)
        text[at], text[at + 1] = 46, 48
        return at + 2
    if first >= 0:  # 12.5
        at = _put_whole(digits // _WHOLES[-power], n + power, text, at)
        text[at] = 46
        return _put_whole(digits % _WHOLES[-power], -power, text, at + 1)
    text[at], text[at + 1] = 48, 46  # 0.0125
    return _put_whole(digits, -power, text, at + 2)


@cached
def spell(values: Array, digits: Array, powers: Array, n_columns: int, text: Array) -> int:
    """Write numbers with commas between them and a line break behind each row; returns where the text ends.

    Parameters
    ----------
    values
        (n,) float32: which are negative, and which are no numbers.
    digits, powers
        As `shortest` fills them.
    n_columns
        Numbers of a row.
    text
        (18 * n,) uint8 to fill.
    """
    at = 0
    for place in range(len(values)):
        if not np.isfinite(values[place]):
            for letter in (110, 117, 108, 108):
                text[at] = letter
                at += 1
        else:
            if np.signbit(values[place]):
                text[at] = 45
                at += 1
            at = _put(digits[place], powers[place], text, at)
        if (place + 1) % n_columns:
            text[at], text[at + 1] = 44, 32
            at += 2
        else:
            text[at] = 10
            at += 1
    return at
