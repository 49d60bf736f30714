"""Bytes in words for people: `size`, in powers of 1000, as disks are sold and ``df -H`` counts."""

__all__ = ["size"]

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def size(n_bytes: float) -> str:
    """A number of bytes as ``12 bytes``, ``3.4 kB``, ``56.0 MB`` or ``1,200.0 TB``."""
    for unit in _UNITS[:-1]:
        if n_bytes < (1000 if unit == "bytes" else 999.95):  # what would be rounded to 1,000.0 is one of the next
            return f"{n_bytes:.0f} {unit}" if unit == "bytes" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.1f} {_UNITS[-1]}"
