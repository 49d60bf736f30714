"""Compiled engines on disk, in folders that nobody else can read or write.

In: a cache folder, and all that an engine depends on. Out: a place for its files, which says whether they are whole.
An engine is code that a GPU will run, so it is only ever taken from here, never from a bundle, and a folder that
others could have written to is refused. It knows nothing of who compiles.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scgpt_runtime.digests import sha256_of

__all__ = ["EnginePlace", "NotPrivateError", "place"]

_SEAL = "sealed.json"
_LOCK = "lock"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class NotPrivateError(OSError):
    """A folder is not this user's alone."""


@dataclass(frozen=True, slots=True)
class EnginePlace:
    """Where one engine is kept.

    Attributes
    ----------
    engine
        Folder of the engine's files, and of nothing else.
    timings
        Folder of what was learnt while compiling, shared by all engines for the same GPU and versions.
    about
        All that the engine depends on.
    """

    engine: Path
    timings: Path
    about: dict[str, Any]

    def sealed(self) -> bool:
        """Whether the files are there, and are those that were sealed."""
        try:
            told = json.loads((self.engine / _SEAL).read_text(encoding="utf-8"))
            return bool(told["files"] == self._files())
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def seal(self) -> bool:
        """Write down what the files are, once they are whole; False where there are none, or it cannot be written."""
        try:
            files = self._files()
            text = json.dumps({"about": self.about, "files": files}, indent=1, sort_keys=True)
            handle, beside = tempfile.mkstemp(dir=self.engine, suffix=".part")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(beside).replace(self.engine / _SEAL)
        except OSError:
            return False
        return bool(files)

    def clear(self) -> None:
        """Take away the engine's files, whole or not."""
        for found in self.engine.iterdir():
            found.unlink(missing_ok=True)

    def forget_timings(self) -> None:
        """Take away what was learnt while compiling, but not the lock on it."""
        for found in self.timings.iterdir():
            if found.name != _LOCK:
                found.unlink(missing_ok=True)

    @contextmanager
    def locked(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Compile alone: one process or thread at a time for one kind of GPU, since compiling is timing.

        Parameters
        ----------
        waiting
            Called once if another one holds the lock.
        """
        with (self.timings / _LOCK).open("a") as file:  # closing it lets go
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError:  # a file system without locks: two may compile the same engine, and the last one stays
                pass
            yield

    def _files(self) -> dict[str, str]:
        """Name to sha256 of every file but our own."""
        with contextlib.suppress(FileNotFoundError):
            found = [path for path in self.engine.iterdir() if path.name != _SEAL and path.suffix != ".part"]
            return {path.name: sha256_of(path) for path in sorted(found)}
        return {}


def place(home: Path, engine: dict[str, Any], machine: dict[str, Any]) -> EnginePlace:
    """A place for an engine, its folders made.

    Parameters
    ----------
    home
        Folder for engines of one kind; it is made private.
    engine, machine
        What the engine depends on, in JSON's types: the graph and how it is compiled; the GPU and the libraries.

    Raises
    ------
    NotPrivateError
        A folder belongs to somebody else, or others may write to it.
    OSError
        A folder cannot be made.
    """
    about = json.loads(json.dumps({**engine, **machine}))
    home.parent.mkdir(parents=True, exist_ok=True)
    folders = home / "engines" / _key(about), home / "timings" / _key(machine)
    for folder in (home, home / "engines", home / "timings", *folders):
        _make_private(folder)
    for folder in folders:
        if not os.access(folder, os.W_OK):
            raise OSError(f"{folder} cannot be written")
    return EnginePlace(*folders, about)


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotPrivateError(f"{folder} is a link or a file; expected a folder of your own. Take it away")
    if found.st_uid != os.geteuid():
        raise NotPrivateError(f"{folder} belongs to user {found.st_uid}, not to you. Take another cache folder")
    if found.st_mode & _OTHERS_WRITE:
        raise NotPrivateError(f"others may write to {folder}. Take it away, or: chmod 700 {folder}")


def _key(told: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]
