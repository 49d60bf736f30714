"""The private folder of a server, for sockets and counts: `private_folder`, which also removes what killed ones left.

It does not know what lies there.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["private_folder"]

_PREFIX = "scgpt-infer-serve-"
_LOCK = "lock"


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder for temporary files that this user alone can read, until the block ends."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name:
        folder = Path(name)
        with (folder / f".{_LOCK}").open("x") as lock:
            with suppress(OSError):  # a file system without locks: what killed servers leave stays there
                # It is locked before it has its name, and let go by the system, however this process ends.
                fcntl.flock(lock, fcntl.LOCK_EX)
                (folder / f".{_LOCK}").rename(folder / _LOCK)
                for found in folder.parent.glob(f"{_PREFIX}*"):
                    _remove_left(found)
            yield folder


def _remove_left(folder: Path) -> None:
    """Remove a folder of ours whose server is gone."""
    try:
        if folder.lstat().st_uid != os.getuid() or folder.is_symlink():
            return
        with (folder / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # it is at work, or about to be
        return
