"""What processes hold: `held_bytes`, by PSS where the system tells it, else by resident memory.

In: a process. Out: bytes, of it and of all that it has started. It knows no jobs.
"""

import ctypes
import gc
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["held_bytes", "resident_bytes", "trim"]

_PROC = Path("/proc")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def held_bytes(pid: int | None = None) -> int:
    """PSS of a process and of all that it has started, in bytes; None: of this one.

    PSS is what a process has alone, and of what several have in common (libraries, mapped weights) its share. Where
    the system does not tell it, resident memory is taken, which is never less.
    """
    pid = os.getpid() if pid is None else pid
    return sum(_pss(each) for each in _family(pid)) or _most_resident()


def resident_bytes(pid: int | None = None) -> int:
    """Resident memory of a process and of all that it has started: never less than `held_bytes`, and told at once."""
    pid = os.getpid() if pid is None else pid
    return sum(_resident(each) for each in _family(pid)) or _most_resident()


def trim() -> None:
    """Give back to the system what is free: objects that only hold each other, and pages that malloc keeps."""
    gc.collect()
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if give_back is not None:
        give_back(0)


def _family(pid: int) -> Iterator[int]:
    yield pid
    for child in _children(pid):
        yield from _family(child)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for told in (_PROC / str(pid) / "task").glob("*/children"):
        try:
            found += map(int, told.read_text().split())
        except OSError:  # the thread has ended
            continue
    return found


def _pss(pid: int) -> int:
    try:
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:  # it has ended, is another user's, or the kernel is older than 4.14
        pass
    return _resident(pid)


def _resident(pid: int) -> int:
    try:
        return int((_PROC / str(pid) / "statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _most_resident() -> int:
    """Most that this process has been resident with: all that a system without /proc tells at once."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
