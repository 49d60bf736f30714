"""The many ways of HDF5 and zarr to fail, turned into one `CellsError` that says what was being read."""

import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from scgpt_runtime.errors import CellsError

__all__ = ["reading"]

# A damaged file is reported by whichever of these the damaged place happens to lead to.
DAMAGE = (
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    ArithmeticError,
    AttributeError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
)


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Raise errors of h5py and zarr in the block as `CellsError`.

    Parameters
    ----------
    what
        What is being read, as the message shall begin.
    """
    try:
        yield
    except DAMAGE as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0].strip("'\"")
        raise CellsError(
            f"{what} cannot be read: {first_line}. The file is probably damaged or cut short: "
            "copy or download it again."
        ) from error
