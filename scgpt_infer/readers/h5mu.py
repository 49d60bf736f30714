"""Cells of an h5mu file, one modality of it."""

from pathlib import Path

from scgpt_infer.readers.damage import reading
from scgpt_infer.readers.group import GroupCells
from scgpt_infer.readers.h5ad import open_hdf5
from scgpt_infer.readers.modalities import open_modality
from scgpt_infer.readers.names import texts
from scgpt_infer.readers.room import ROOM, ReadingRoom
from scgpt_runtime.errors import CellsError

__all__ = ["open_h5mu"]


def open_h5mu(
    path: Path,
    *,
    layer: str | None = None,
    threads: int | None = None,
    room: ReadingRoom = ROOM,
    modality: str | None = None,
) -> GroupCells:
    """Open an h5mu file; the parameters are those of `scgpt_infer.readers.open_cells`.

    Raises
    ------
    CellsError
        If it is no h5mu file, is damaged, or its modality cannot be chosen or read.
    """
    file = open_hdf5(path, "an h5mu file")
    try:
        with reading(str(path)):
            parts = texts(file)
        if "mod" not in parts:
            raise CellsError(
                f"{path} is HDF5 but not MuData: it holds {', '.join(parts) or 'nothing'}; expected mod. "
                "If it is an h5ad file, rename it to that."
            )
        return open_modality(path, file, file.close, layer=layer, threads=threads, room=room, modality=modality)
    except BaseException:
        file.close()
        raise
