"""sha256 of files, computed once per state of a file.

In: a path. Out: its sha256. A stamp (size, times, inode) under the cache folder stands for a digest
until the file changes. A cache folder that cannot be written costs time, never correctness.
"""

import contextlib
import hashlib
import json
import os
import tempfile
import time
from pathlib import Path

__all__ = ["Digests", "sha256_of"]

_SETTLED_NS = 2_000_000_000
"""A file changed less than this ago could change again within one tick of the file system's clock: no stamp yet."""


def sha256_of(path: Path) -> str:
    """sha256 of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Digests:
    """sha256 of the files under one folder, remembered between runs.

    Parameters
    ----------
    folder
        Folder (or the one file) whose digests these are; its resolved path is the key of the memory.
    cache_dir
        Where stamps are kept; None: nothing is remembered.
    """

    def __init__(self, folder: Path, cache_dir: Path | None) -> None:
        self._stamps: dict[str, list[int | str]] = {}
        self._changed = False
        self._store: Path | None = None
        if cache_dir is not None:
            key = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]
            self._store = cache_dir / "stamps" / f"{key}.json"
            with contextlib.suppress(OSError, ValueError):
                found = json.loads(self._store.read_text(encoding="utf-8"))
                self._stamps = found if isinstance(found, dict) else {}

    def known(self, path: Path, name: str) -> str | None:
        """The digest that is remembered for this state of the file, None if it has to be computed."""
        stamp = self._stamps.get(name)
        if not isinstance(stamp, list) or len(stamp) != 5 or stamp[:4] != _state(path):
            return None
        return str(stamp[4])

    def compute(self, path: Path, name: str) -> str:
        """Read the file, and remember its digest when the file has settled."""
        before = _state(path)
        digest = sha256_of(path)
        newest = max(before[1], before[2])
        if before == _state(path) and time.time_ns() - newest > _SETTLED_NS:
            self._stamps[name] = [*before, digest]
            self._changed = True
        return digest

    def save(self) -> None:
        """Write the stamps if any is new. A folder that cannot be written is not an error."""
        if self._store is None or not self._changed:
            return
        with contextlib.suppress(OSError):
            self._store.parent.mkdir(parents=True, exist_ok=True)
            handle, beside = tempfile.mkstemp(dir=self._store.parent, suffix=".part")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(self._stamps, file)
            Path(beside).replace(self._store)
            self._changed = False


def _state(path: Path) -> list[int]:
    """Size, times and inode: ctime too, since a program can set mtime back but not ctime."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
