"""Bytes in words: `size` tells people, in powers of 1000, as disks are sold; `bytes_of` reads what people write."""

import re

from scgpt_runtime.errors import OptionError

__all__ = ["bytes_of", "size"]

_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_LEAST_BARE = 1_000_000
"""A smaller number without a unit is meant in some unit that was forgotten."""
_WORDS = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)


def size(n_bytes: float) -> str:
    """A number of bytes as ``12 bytes``, ``3.4 kB``, ``56.0 MB`` or ``1,200.0 TB``."""
    for unit in _UNITS[:-1]:
        if n_bytes < (1000 if unit == "bytes" else 999.95):  # what would be rounded to 1,000.0 is one of the next
            return f"{n_bytes:.0f} {unit}" if unit == "bytes" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.1f} {_UNITS[-1]}"


def bytes_of(text: str) -> int:
    """Bytes of a size such as ``8GiB`` (powers of 1024), ``8GB`` or ``8G`` (powers of 1000), or ``8000000``.

    Raises
    ------
    OptionError
        It is no size, or so small a number without a unit that one was forgotten.
    """
    found = _WORDS.fullmatch(text.strip())
    if found is None or float(found[1]) == 0:
        raise OptionError(f"{text!r} is no size of memory. Write a number with a unit, such as 8GiB or 500MB.")
    if text.strip()[-1].isdigit() and float(found[1]) < _LEAST_BARE:
        raise OptionError(
            f"{text!r} is a size of memory without a unit, and would be less than a megabyte. Write the unit, such as "
            f"{found[1]}MB or {found[1]}GB."
        )
    power = " kmgt".index(found[2].lower()) if found[2] else 0
    return int(float(found[1]) * (1024 if found[3] else 1000) ** power)
