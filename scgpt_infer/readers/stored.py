"""An embedding of ours that lies with the cells: `obsm[key]` with the facts of its run in ``uns``.

Arrays and mappings come in, of HDF5, zarr or in memory, and a `Stored` goes out where they are one.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers.damage import reading
from scgpt_infer.readers.source import Stored
from scgpt_infer.writers.h5ad import RECORD

__all__ = ["embedding", "flat"]


def embedding(obsm: Any, uns: Any, key: str, n_cells: int, where: str) -> Stored | None:
    """The embedding under a key; None where there is none, or none that a run of ours wrote under this key.

    Parameters
    ----------
    obsm, uns
        Groups or mappings, or None where there are none.
    key
        Name under ``obsm``.
    n_cells
        Rows that it must have.
    where
        Name of the file or object in messages.
    """
    with reading(f"obsm and uns of {where}"):
        if obsm is None or uns is None or key not in obsm or RECORD not in uns or not hasattr(uns[RECORD], "keys"):
            return None
        record = flat(uns[RECORD])
        array = obsm[key]
        shape: tuple[int, ...] = getattr(array, "shape", ())
        dtype = getattr(array, "dtype", None)  # a table has no one dtype
        if record.get("key", key) != key or len(shape) != 2 or shape[0] != n_cells or getattr(dtype, "kind", "") != "f":
            return None
        return Stored(record, n_cells, int(shape[1]), partial(_rows, array, f"obsm[{key!r}] of {where}"))


def _rows(array: Any, where: str, start: int, stop: int) -> NDArray[np.float32]:
    with reading(f"Rows {start:,} to {stop - 1:,} of {where}"):
        return np.array(array[start:stop], np.float32)


def flat(facts: Any) -> Mapping[str, str | int | float]:
    """The single values among the facts, as Python has them."""
    flat: dict[str, str | int | float] = {}
    for name in facts.keys():  # noqa: SIM118 -- a group is no dict
        value = facts[name]
        value = value[()] if hasattr(value, "shape") and value.shape == () else value
        value = value.item() if isinstance(value, (np.generic, np.ndarray)) and np.ndim(value) == 0 else value
        value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        if isinstance(value, (str, int, float)):
            flat[str(name)] = value
    return flat
