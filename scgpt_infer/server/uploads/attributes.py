"""Attributes of a group or array of an upload: few, small, and of plain types.

The one reference that is taken is that by which anndata before 0.8 told the words of a column of categories.
"""

import math
from typing import Any

import h5py

from scgpt_infer.server.uploads.kinds import is_text, refused
from scgpt_infer.server.uploads.limits import Limits
from scgpt_infer.sizes import size
from scgpt_runtime.errors import CellsError

__all__ = ["check_attributes"]

_MOST = 1024
_CATEGORIES = b"categories"


def check_attributes(found: Any, where: str, limits: Limits) -> None:
    """Refuse attributes that are many, large, or of types that are not taken.

    Parameters
    ----------
    found
        A ``GroupID`` or ``DatasetID`` of h5py.
    where
        Its name in messages.
    limits
        Of the file.

    Raises
    ------
    CellsError
        As said.
    """
    count = h5py.h5a.get_num_attrs(found)
    if count > _MOST:
        raise CellsError(f"{where} has {count:,} attributes; expected at most {_MOST:,}. Write the file again.")
    n_bytes = 0
    for name in _names(found):
        attribute = h5py.h5a.open(found, name)
        shown = f"The attribute {name[:64].decode('utf-8', 'replace')!r} of {where}"
        kind = attribute.get_type()
        if name == _CATEGORIES and kind.equal(h5py.h5t.STD_REF_OBJ) and attribute.shape == ():
            _check_categories(found, shown)
            continue
        if why := refused(kind):
            raise CellsError(f"{shown} holds {why}; expected numbers and text. Write the file again with anndata.")
        n_bytes += len(name) + math.prod(attribute.shape or ()) * kind.get_size()
        if n_bytes <= limits.attribute_bytes and is_text(kind):
            n_bytes += _text_bytes(found, name)
        if n_bytes > limits.attribute_bytes:
            raise CellsError(
                f"{where} has attributes of more than {size(limits.attribute_bytes)}; expected a few words. "
                "Write the file again with anndata."
            )


def _names(found: Any) -> list[bytes]:
    names: list[bytes] = []
    h5py.h5a.iterate(found, names.append)
    return names


def _text_bytes(found: Any, name: bytes) -> int:
    element = h5py.Group(found) if isinstance(found, h5py.h5g.GroupID) else h5py.Dataset(found)
    value = element.attrs[name]
    texts = [value] if isinstance(value, (str, bytes)) else getattr(value, "flat", [])
    return sum(len(text) for text in texts if isinstance(text, (str, bytes)))


def _check_categories(found: Any, shown: str) -> None:
    """The words of a column must be an array beside it, which the walk through the file meets."""
    column = h5py.Dataset(found)
    reference = column.attrs[_CATEGORIES]
    group = column.parent.get("__categories")
    words = column.file[reference] if reference else None
    beside = isinstance(words, h5py.Dataset) and isinstance(group, h5py.Group) and words.parent == group
    if not beside:
        raise CellsError(
            f"{shown} is a reference that leads elsewhere than to __categories. Write the file again with anndata."
        )
