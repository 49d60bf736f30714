"""Whether a file is still the one that was opened: `Unchanged`, asked after each read.

HDF5 gives zeros for what lies behind the end of a file that was cut while it was open, and zarr for chunks that are
gone: both would pass for counts. It reads nothing.
"""

import os
import stat
from pathlib import Path

from scgpt_runtime.errors import CellsError

__all__ = ["Unchanged"]

_ROOTS = ("zarr.json", ".zgroup", ".zarray")
"""Files by which a folder is a zarr store."""


class Unchanged:
    """Remembers a file or folder as it is now.

    Parameters
    ----------
    path
        The file or folder; None for an object in memory, which is never asked about.
    """

    def __init__(self, path: Path | None) -> None:
        roots = [] if path is None else [path / name for name in _ROOTS]
        self._path = next((root for root in roots if root.is_file()), path)
        self._state = self._now()

    def check(self) -> None:
        """Make sure that it is still the same.

        Raises
        ------
        CellsError
            It was changed or cut since, or is gone.
        """
        if self._now() == self._state:
            return
        raise CellsError(
            f"{self._path} was changed, cut or removed while it was read, so what was read last is not used. Bring the "
            "file back and run the same command again."
        )

    def _now(self) -> tuple[int, ...]:
        """Which file it is and, of a file, its size and when it was written; empty when there is none."""
        try:
            found = None if self._path is None else os.stat(self._path)
        except OSError:
            return ()
        if found is None:
            return ()
        which = (found.st_dev, found.st_ino)
        return which if stat.S_ISDIR(found.st_mode) else (*which, found.st_size, found.st_mtime_ns)
