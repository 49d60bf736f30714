"""What a process that opens files of strangers may do: `environment` is what it gets of ours, `confine` what it keeps.

It knows neither the files nor what becomes of them.
"""

import ctypes
import math
import os
import resource
from contextlib import suppress

__all__ = ["confine", "environment"]

_KEPT = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "NUMBA_CACHE_DIR", "PATH", "TMPDIR", "VIRTUAL_ENV")
_SET = {
    "HDF5_PLUGIN_PRELOAD": "::",  # HDF5's word for: load none; its filters are code in files elsewhere
    "HDF5_USE_FILE_LOCKING": "FALSE",
}
_NO_NEW_PRIVILEGES = 38  # PR_SET_NO_NEW_PRIVS of prctl


def environment(**more: str) -> dict[str, str]:
    """Variables of such a process: what Python needs of ours, no key or address that we may have; and `more`."""
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("XDG_")}
    return {**kept, **_SET, **more}


def confine(memory_bytes: int, file_bytes: int, *, cpu_seconds: float | None = None, files: int | None = None) -> None:
    """Limit this process. It leaves no core, and gets no rights by running anything.

    Parameters
    ----------
    memory_bytes
        Address space.
    file_bytes
        Most bytes of a file that it writes.
    cpu_seconds
        Of processor time. None: all that there is.
    files
        Most files that it has open. None: as many as the system lets it.
    """
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, memory_bytes)
    _limit(resource.RLIMIT_FSIZE, file_bytes)  # an OSError, since Python ignores the signal
    if files is not None:
        _limit(resource.RLIMIT_NOFILE, files)
    if cpu_seconds is not None:
        _limit_cpu(math.ceil(cpu_seconds) + 1)
    with suppress(OSError, AttributeError):  # Linux alone has it
        ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def _limit(kind: int, most: int) -> None:
    hard = resource.getrlimit(kind)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


def _limit_cpu(seconds: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    if hard == resource.RLIM_INFINITY or hard > seconds + 1:  # at the hard limit a process cannot be told what ended it
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
