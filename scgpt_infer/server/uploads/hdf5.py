"""An HDF5 file, before anything in it is read: `check_hdf5` walks it and follows no link.

Each group and array is met once, by the one hard link that it may have. What an array may be, `storage` knows; how
tables fit together, `tables`.
"""

from pathlib import Path
from typing import Any

import h5py

from scgpt_infer.readers.damage import reading
from scgpt_infer.server.uploads.attributes import check_attributes
from scgpt_infer.server.uploads.limits import Limits
from scgpt_infer.server.uploads.storage import Unpacked, check_dataset
from scgpt_infer.server.uploads.tables import check_tables
from scgpt_runtime.errors import CellsError

__all__ = ["REPAIR", "check_hdf5"]

REPAIR = "Write the file again with anndata (read_h5ad, write_h5ad)."
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_NAME_BYTES = 1024
_LINKS = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "a link into another file"}


def check_hdf5(path: Path, limits: Limits) -> None:
    """Refuse a file that is not whole in itself, or is built so that to read it takes more than it seems.

    Raises
    ------
    CellsError
        It has soft or external links, an object under two names, groups in a circle, arrays in other files or made of
        others, filters that HDF5 does not bring, types that are neither numbers nor text, a user block; or more of
        anything than `limits` allows.
    """
    with path.open("rb") as stream:
        head = stream.read(len(_SIGNATURE))
    if head != _SIGNATURE:
        raise CellsError(
            f"{path} is not an HDF5 file (it begins with {head!r}); expected one that begins with its signature. Check "
            "what it is, unpack it if it is packed, or convert it with scanpy."
        )
    with reading(str(path)), h5py.File(path, "r", locking=False) as file:
        _Walk(path, limits).group(file.id, "", 0)
        check_tables(file, path)


class _Walk:
    """What was met of a file so far.

    Parameters
    ----------
    path, limits
        The file, and what it may be.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path, self._limits = path, limits
        self._met: set[int] = set()  # addresses of groups and arrays
        self._unpacked = Unpacked(path, limits)

    def group(self, group: Any, where: str, depth: int) -> None:
        """Walk a group and all that is in it."""
        if depth > self._limits.depth:
            raise CellsError(f"{self._path} nests groups deeper than {self._limits.depth}. {REPAIR}")
        self._once(group, where or "/")
        check_attributes(group, f"{where or '/'} of {self._path}", self._limits)
        for name in self._names(group, where):
            self._object(h5py.h5o.open(group, name), f"{where}/{name.decode('utf-8', 'replace')}", depth)

    def _object(self, found: Any, where: str, depth: int) -> None:
        if isinstance(found, h5py.h5g.GroupID):
            self.group(found, where, depth + 1)
        elif isinstance(found, h5py.h5d.DatasetID):
            self._once(found, where)
            check_dataset(found, f"{where} of {self._path}", self._unpacked)
            check_attributes(found, f"{where} of {self._path}", self._limits)
        else:
            raise CellsError(f"{self._path} has a named type at {where}; expected groups and arrays alone. {REPAIR}")

    def _names(self, group: Any, where: str) -> list[bytes]:
        """The links of a group, all of which lead to objects of this file alone."""
        links: list[tuple[bytes, int]] = []
        room = self._limits.objects - len(self._met)

        def take(name: bytes, link: Any) -> bool | None:  # h5py stops at True; it does not bear an error here
            links.append((name, link.type))
            return True if len(links) > room else None

        group.links.iterate(take, info=True)
        if len(links) > room:
            raise CellsError(f"{self._path} has more than {self._limits.objects:,} groups and arrays. {REPAIR}")
        for name, kind in links:
            shown = f"{where}/{name[:_NAME_BYTES].decode('utf-8', 'replace')}"
            if len(name) > _NAME_BYTES:
                raise CellsError(f"{self._path} has a name of {len(name):,} bytes: {shown}... {REPAIR}")
            if kind != h5py.h5l.TYPE_HARD:
                what = _LINKS.get(kind, "a link of an unknown kind")
                raise CellsError(f"{self._path} has {what} at {shown}; expected a file without links. {REPAIR}")
        return [name for name, _ in links]

    def _once(self, found: Any, where: str) -> None:
        address = int(h5py.h5o.get_info(found).addr)
        if address in self._met:
            raise CellsError(
                f"{self._path} has {where} under another name too; expected each group and array once, and no group "
                f"inside itself. {REPAIR}"
            )
        self._met.add(address)
