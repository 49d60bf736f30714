"""Which types of values an upload may have: numbers, booleans, text, and rows of these; see `refused`."""

from typing import Any

import h5py

__all__ = ["is_text", "refused"]

_TEXT_BYTES = 65_536
_NUMBER_BYTES = 16
_MEMBERS = 4096
_NAMES = {
    h5py.h5t.REFERENCE: "references",
    h5py.h5t.OPAQUE: "bytes of an unknown meaning",
    h5py.h5t.VLEN: "arrays of any length in each value",
    h5py.h5t.ARRAY: "an array in each value",
    h5py.h5t.BITFIELD: "bit fields",
    h5py.h5t.TIME: "times",
}


def refused(kind: Any, nested: bool = False) -> str:
    """What is wrong with a type; nothing if values of it are taken.

    Parameters
    ----------
    kind
        A ``TypeID`` of h5py.
    nested
        Whether it is of a field of rows.
    """
    of, n_bytes = kind.get_class(), kind.get_size()
    if of in (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.COMPLEX):
        return f"numbers of {n_bytes:,} bytes" if n_bytes > _NUMBER_BYTES else ""
    if of == h5py.h5t.STRING:
        too_long = not kind.is_variable_str() and n_bytes > _TEXT_BYTES
        return f"texts of {n_bytes:,} bytes each" if too_long else ""
    if of == h5py.h5t.ENUM:
        return refused(kind.get_super(), True)
    if of == h5py.h5t.COMPOUND and not nested:
        n_members = kind.get_nmembers()
        if n_members > _MEMBERS:
            return f"rows of {n_members:,} fields"
        return next((why for i in range(n_members) if (why := refused(kind.get_member_type(i), True))), "")
    return "rows in rows" if of == h5py.h5t.COMPOUND else _NAMES.get(of, "values of an unknown type")


def is_text(kind: Any) -> bool:
    """Whether values of a type, or fields of it, are texts that lie elsewhere in the file."""
    if kind.get_class() == h5py.h5t.COMPOUND:
        return any(is_text(kind.get_member_type(i)) for i in range(kind.get_nmembers()))
    return bool(kind.get_class() == h5py.h5t.STRING and kind.is_variable_str())
