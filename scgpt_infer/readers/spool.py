"""Arrays that grow on disk: what is read once, front to back, and then wanted by row ranges.

Numbers go in at the end and come out by slices. A small array stays in memory; a larger one lies in a temporary file
without a name, which is gone when it is closed or the process ends, however it ends. It knows no cells and no formats.
"""

import shutil
import tempfile
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from scgpt_infer.readers.room import ROOM
from scgpt_infer.sizes import size
from scgpt_runtime.errors import CellsError

__all__ = ["Tape", "check_room", "no_room"]


class Tape:
    """A one-dimensional array that grows at its end, and is read by slices.

    Parameters
    ----------
    dtype
        Type of its values.
    where
        What the values are of, in messages.
    memory
        Bytes up to which it stays in memory.
    """

    def __init__(self, dtype: DTypeLike, where: str, memory: int = ROOM.tape_bytes) -> None:
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self._where = where
        self._n = 0
        self._file = tempfile.SpooledTemporaryFile(memory)  # noqa: SIM115, closed by close()

    @property
    def shape(self) -> tuple[int]:
        """The number of values."""
        return (self._n,)

    def append(self, values: NDArray[Any]) -> None:
        """Add values at the end.

        Raises
        ------
        CellsError
            If the disk is full.
        """
        try:
            self._file.seek(self._n * self.dtype.itemsize)
            self._file.write(np.ascontiguousarray(values, self.dtype).data.cast("B"))
        except OSError as error:
            raise no_room(self._where, error) from error
        self._n += len(values)

    def __getitem__(self, where: slice, /) -> NDArray[Any]:
        low, high, _ = where.indices(self._n)
        part = np.empty(max(0, high - low), self.dtype)
        self._file.seek(low * self.dtype.itemsize)
        # A read of a file may give less than was asked for, above 2 GB always.
        room, done = part.view(np.uint8).data, 0
        while done < part.nbytes:
            n_bytes = self._file.readinto(room[done:])
            if not n_bytes:
                raise OSError("the temporary file ends too early")
            done += n_bytes
        return part

    def close(self) -> None:
        """Free the memory, or remove the file."""
        self._file.close()


def check_room(n_bytes: int, where: str) -> None:
    """Make sure that the folder of temporary files has room.

    Parameters
    ----------
    n_bytes
        What will be written there.
    where
        What it is of, in messages.

    Raises
    ------
    CellsError
        If it has not.
    """
    folder = _folder(where)
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise CellsError(
            f"{where} needs a temporary file of {size(n_bytes)} and {folder} has {size(free)} free. "
            "Free space there, or set TMPDIR to another folder."
        )


def no_room(where: str, error: OSError) -> CellsError:
    """The error for a temporary file that could not be written."""
    return CellsError(
        f"The temporary file for {where} cannot be written to {_folder(where)}: {error.strerror or error}. "
        "Free space there, or set TMPDIR to another folder."
    )


def _folder(where: str) -> str:
    try:
        return tempfile.gettempdir()
    except OSError as error:
        raise CellsError(f"{where} needs a temporary file, and no folder for it can be written. Set TMPDIR.") from error
