"""Cells of a zarr store as anndata or mudata writes it, version 2 or 3, sharded or not, a folder or a zip of one."""

import posixpath
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scgpt_infer.readers.damage import reading
from scgpt_infer.readers.group import GroupCells
from scgpt_infer.readers.modalities import open_modality
from scgpt_infer.readers.nodes import ZarrGroup
from scgpt_infer.readers.room import ROOM, ReadingRoom
from scgpt_infer.readers.source import refuse_modality
from scgpt_runtime.errors import CellsError, MissingDependencyError

__all__ = ["METADATA", "open_store", "open_zarr"]

METADATA = ("zarr.json", ".zgroup")
"""Files one of which every group of a store has."""


def open_zarr(
    path: Path,
    *,
    layer: str | None = None,
    threads: int | None = None,
    room: ReadingRoom = ROOM,
    modality: str | None = None,
) -> GroupCells:
    """Open a zarr store; the parameters are those of `scgpt_infer.readers.open_cells`.

    zarr decides by itself how many threads unpack chunks.

    Raises
    ------
    CellsError
        If it is no zarr store, is damaged, is laid out otherwise, or nothing in it can be embedded.
    MissingDependencyError
        If zarr is not installed.
    """
    group, close = open_store(path)
    try:
        with reading(str(path)):
            is_mudata = "mod" in group
        if is_mudata:
            return open_modality(path, group, close, layer=layer, threads=threads, room=room, modality=modality)
        refuse_modality(str(path), modality)
        return GroupCells(path, group, close, str(path), layer=layer, threads=threads, room=room)
    except BaseException:
        close()
        raise


def open_store(path: Path) -> tuple[ZarrGroup, Callable[[], None]]:
    """Open a store: its root, and what closes it; errors as for `open_zarr`."""
    try:
        import zarr
        from zarr.storage import LocalStore, ZipStore
    except ImportError as error:
        raise MissingDependencyError(
            'Reading .zarr needs zarr 3 or newer, which is not installed: pip install "scgpt-infer[zarr]".'
        ) from error
    with reading(str(path)):
        root = _root_of_zip(path) if path.is_file() else _root(path)
        store: Any = ZipStore(path, mode="r") if path.is_file() else LocalStore(path, read_only=True)
    try:
        with reading(str(path)):
            return ZarrGroup(zarr.open_group(store, path=root, mode="r")), store.close
    except BaseException:
        store.close()
        raise


def _root(path: Path) -> str:
    if not any((path / name).is_file() for name in METADATA):
        raise CellsError(
            f"{path} is no zarr group: it has neither of {' and '.join(METADATA)}. "
            "Check the path, and that the store was copied whole."
        )
    return ""


def _root_of_zip(path: Path) -> str:
    """The folder of the store in a zip: often the folder itself was packed, not what is in it."""
    if not zipfile.is_zipfile(path):
        raise CellsError(
            f"{path} is neither a folder nor a whole zip file; expected a zarr store. Copy or download it again."
        )
    with zipfile.ZipFile(path) as packed:
        roots = {posixpath.dirname(name) for name in packed.namelist() if posixpath.basename(name) in METADATA}
    if not roots:
        raise CellsError(f"{path} is a zip without a zarr group: it has no {' or '.join(METADATA)}. Check what it is.")
    return min(roots, key=lambda root: (root.count("/"), len(root)))
