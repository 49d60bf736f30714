"""Room for rows in an open h5ad file: a dataset with its blocks on the disk, into which rows are written as they come.

It knows no result. anndata reads what it makes as an array.
"""

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import DTypeLike

__all__ = ["reserve", "room"]


def room(group: Any, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
    """A dataset of a group for rows to be written into; an older one is replaced.

    Parameters
    ----------
    group
        Of a file open for writing.
    name
        Of the dataset in it.
    shape, dtype
        Of the array.
    """
    wanted = np.dtype(dtype).newbyteorder("<")
    if name in group:
        old = group[name]
        if isinstance(old, h5py.Dataset) and old.shape == shape and old.dtype == wanted:
            return old  # HDF5 does not give back the room of a deleted one: in place, the file would grow each time
        del group[name]
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    plan.set_obj_track_times(False)
    space = h5py.h5s.create_simple(shape)
    h5py.h5d.create(group.id, name.encode(), h5py.h5t.py_create(wanted), space, dcpl=plan)
    dataset = group[name]
    dataset.attrs["encoding-type"] = "array"
    dataset.attrs["encoding-version"] = "0.2.0"
    return dataset


def reserve(file: Any, dataset: Any, path: Path) -> None:
    """Take the disk blocks of a dataset now, so that a full disk shows before the first cell.

    Parameters
    ----------
    file, path
        The open file, and where it is.
    dataset
        One that `room` gave.
    """
    offset, size = dataset.id.get_offset(), dataset.id.get_storage_size()
    if offset is None or not size:
        return
    file.flush()
    handle = os.open(path, os.O_RDWR)
    try:
        os.posix_fallocate(handle, offset, size)
    finally:
        os.close(handle)
