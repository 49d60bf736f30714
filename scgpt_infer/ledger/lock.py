"""One process alone is at work where a lock lies: `Lock.take`, for local disks and network ones.

A lock is a small file that says who holds it, with a counter that a thread of the holder raises. Whoever finds one
watches whether the counter moves, by a clock of its own: clocks of two machines are never compared. Only a holder
that can be looked up, on this machine since this boot, is known at once to be gone. It does not know what is locked.
"""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Self
from uuid import uuid4

from scgpt_infer.ledger.holder import Holder, named, parsed
from scgpt_infer.writers.sink import output_errors
from scgpt_runtime.errors import OutputError

__all__ = ["Lock", "clear", "holder_of"]

Say = Callable[[str], None]

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_LOOKS = 20
"""How often a lock is looked at within the patience."""


class Lock:
    """A lock that this process holds; `take` gives it.

    Attributes
    ----------
    path
        Where it lies.
    """

    def __init__(self, path: Path, holder: Holder, handle: int) -> None:
        self.path = path
        self._holder, self._handle = holder, handle
        self._stop = threading.Event()

    @classmethod
    @contextmanager
    def take(
        cls, path: Path, *, beat: float = 5.0, patience: float = 30.0, say: Say = lambda line: None
    ) -> Iterator[Self]:
        """Hold a lock inside the context.

        Parameters
        ----------
        path
            Where it shall lie; its folder is made where it is missing.
        beat
            Seconds from one raise of the counter to the next. The same for all who take this lock.
        patience
            Seconds for which the counter of another holder must stand still before the lock is taken over; several
            times `beat`.
        say
            Told when another's lock is found and it takes time to see whether that one is at work.

        Raises
        ------
        OutputError
            Another process is at work, or the lock cannot be written.
        """
        with output_errors(path):
            lock = cls(path, *_taken(path, patience, say))
        thread = threading.Thread(target=lock._beat, args=(beat,), name="scgpt-infer lock", daemon=True)
        thread.start()
        try:
            yield lock
        finally:
            lock._stop.set()
            thread.join()
            os.close(lock._handle)
            with suppress(OSError):
                if lock.is_ours():
                    path.unlink()

    def check(self) -> None:
        """Make sure that the lock is still ours: to be called before anything is written that others would rely on.

        Raises
        ------
        OutputError
            Another process took it over, since this one stood still for long, or the file is gone.
        """
        if self.is_ours():
            return
        held = _read(self.path)
        if held is None:
            raise OutputError(
                f"{self.path} is gone: the folder was removed, or another process came and went. What this process "
                "was at is lost. Run the same command again."
            )
        raise OutputError(
            f"{named(held)} has taken over {self.path.parent}, since this process stood still for long. "
            "This one ends; what it had finished is kept."
        )

    def is_ours(self) -> bool:
        """Whether nobody has taken it over."""
        held = _read(self.path)
        return held is not None and self._holder.token.encode() in held

    def _beat(self, seconds: float) -> None:
        beats = 0
        while not self._stop.wait(seconds):
            beats += 1
            with suppress(OSError):  # of no use here: others take over, and `check` finds it out
                _write(self._handle, replace(self._holder, beats=beats))


def clear(path: Path, *, patience: float = 30.0, say: Say = lambda line: None) -> None:
    """Take away a lock under which nobody is at work, if there is one: another one than that of the caller.

    Parameters
    ----------
    path, patience, say
        See `Lock.take`.

    Raises
    ------
    OutputError
        Another process is at work.
    """
    with output_errors(path):
        found = _read(path)
        if found is not None and _abandoned(path, found, patience, say):
            _clear(path, found)


def holder_of(path: Path) -> str | None:
    """Who may be at work under a lock, for people; None where nobody is. It does not wait to see whether they are."""
    found = _read(path)
    holder = None if found is None else parsed(found)
    return None if found is None or (holder is not None and holder.surely_gone()) else named(found)


def _taken(path: Path, patience: float, say: Say) -> tuple[Holder, int]:
    """Put a lock of ours at the path, as soon as no other one is there; the holder and the open file."""
    holder = Holder.here()
    while True:
        path.parent.mkdir(exist_ok=True)
        try:
            handle = _placed(path, holder)
        except FileNotFoundError:
            continue  # whoever was at work before has removed the folder just now
        if handle is not None:
            return holder, handle
        found = _read(path)
        if found is not None and _abandoned(path, found, patience, say):
            _clear(path, found)


def _placed(path: Path, holder: Holder) -> int | None:
    """Make the file and keep it open; None where there is one. Linking is what network disks let one alone do."""
    private = path.with_name(f".{path.name}.{holder.token}")
    handle = _created(private, holder)
    try:
        os.link(private, path)
    except OSError as error:
        linked = os.fstat(handle).st_nlink == 2  # the server did it, and its answer was lost
        if linked:
            return handle
        os.close(handle)
        if error.errno in _NO_LINKS:
            return _made(path, holder)
        if error.errno != errno.EEXIST:
            raise
        return None
    finally:
        with suppress(OSError):
            private.unlink()
    return handle


def _made(path: Path, holder: Holder) -> int | None:
    """The file where there are no links: others may see it before it says anything, and watch it then."""
    try:
        return _created(path, holder)
    except FileExistsError:
        return None


def _created(path: Path, holder: Holder) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        _write(handle, holder)
    except BaseException:
        os.close(handle)
        with suppress(OSError):
            path.unlink()
        raise
    return handle


def _abandoned(path: Path, found: bytes, patience: float, say: Say) -> bool:
    """Whether nobody is at work under this lock; False when it was given back meanwhile."""
    holder = parsed(found)
    if holder is not None and holder.surely_gone():
        return True
    say(f"{path.parent} is locked by {named(found)}. Looking whether it is at work, for up to {patience:.0f} s.")
    end = time.monotonic() + patience
    while time.monotonic() < end:
        time.sleep(patience / _LOOKS)
        now = _read(path)
        if now is None:
            return False
        if now != found:
            raise OutputError(
                f"Another process is at work on {path.parent}: {named(now)}. Wait until it has ended, end it, or name "
                "another output."
            )
        if holder is not None and holder.surely_gone():
            break
    return True


def _clear(path: Path, abandoned: bytes) -> None:
    """Take an abandoned lock away. Of several who try, one finds it; a lock that another has just put is put back."""
    aside = path.with_name(f".{path.name}.{uuid4().hex}.stale")
    try:
        if _read(path) != abandoned:
            return
        path.rename(aside)
        if aside.read_bytes() != abandoned:
            with suppress(OSError):
                os.link(aside, path)
    except FileNotFoundError:
        return
    with suppress(FileNotFoundError):
        aside.unlink()


def _read(path: Path) -> bytes | None:
    """What a lock says; None where there is none. Opened anew each time: that is when network disks look afresh."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ESTALE:  # it was replaced on the server while it was opened
            return None
        raise


def _write(handle: int, holder: Holder) -> None:
    """Write what a lock says over what it said, which was as long."""
    os.pwrite(handle, holder.told(), 0)
    os.fsync(handle)
