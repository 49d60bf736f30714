"""Cells of an h5ad file; and how any HDF5 file is opened."""

from pathlib import Path

import h5py

from scgpt_infer.readers.damage import reading
from scgpt_infer.readers.group import GroupCells
from scgpt_infer.readers.room import ROOM, ReadingRoom
from scgpt_runtime.errors import CellsError

__all__ = ["open_h5ad", "open_hdf5"]

# A compressed chunk is unpacked whole: one that two row ranges share stays in memory between them.
# (For what h5py itself unpacks: names, and matrices that `scgpt_infer.readers.chunks` leaves to it.)
CHUNK_CACHE_BYTES = 32 << 20
CHUNK_CACHE_SLOTS = 10_007
SIGNATURE = b"\x89HDF\r\n\x1a\n"


def open_h5ad(
    path: Path, *, layer: str | None = None, threads: int | None = None, room: ReadingRoom = ROOM
) -> GroupCells:
    """Open an h5ad file; the parameters are those of `scgpt_infer.readers.open_cells`.

    Raises
    ------
    CellsError
        If it is no h5ad file, is damaged, has no cells or genes, or nothing in it can be embedded.
    """
    file = open_hdf5(path, "an h5ad file")
    try:
        with reading(str(path)):
            is_mudata = "mod" in file
        if is_mudata:
            raise CellsError(f"{path} is a MuData file; expected h5ad. Rename it to {path.stem}.h5mu.")
        return GroupCells(path, file, file.close, str(path), layer=layer, threads=threads, room=room)
    except BaseException:
        file.close()
        raise


def open_hdf5(path: Path, expected: str) -> h5py.File:
    """Open an HDF5 file for reading.

    Parameters
    ----------
    path
        The file.
    expected
        What it should be, in messages.

    Raises
    ------
    CellsError
        If it cannot be opened or is no HDF5 file.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
    except OSError as error:
        raise CellsError(f"{path} cannot be opened: {error.strerror}. Check the path and its permissions.") from error
    if not head:
        raise CellsError(f"{path} is empty (0 bytes); expected {expected}. Copy or download it again.")
    # A cut file may fail the library's own test and yet bear the signature: then it is damaged, not another format.
    if head != SIGNATURE and not h5py.is_hdf5(path):
        raise CellsError(
            f"{path} is not an HDF5 file (it begins with {head!r}); expected {expected}. "
            "Check what it is, unpack it if it is packed, or convert it with scanpy."
        )
    with reading(str(path)):
        # "best-effort": file systems without locks are common on clusters.
        return h5py.File(path, "r", locking="best-effort", rdcc_nbytes=CHUNK_CACHE_BYTES, rdcc_nslots=CHUNK_CACHE_SLOTS)
