"""Compiles a function with numba and caches the machine code wherever that is possible.

In: a Python function on bare arrays. Out: the same function as machine code that releases the GIL.
A machine without a writable package folder, without a home or without a name for the user must still
run, so the cache falls back to a private temporary folder and then to none.
"""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numba
import numba.core.config

__all__ = ["cached", "inlined", "inner"]

config: Any = numba.core.config
njit: Any = numba.njit  # its stubs do not know the wrapper options
F = TypeVar("F", bound=Callable[..., Any])


def inner(function: F) -> F:
    """Compile a function that only other compiled functions of the same file call; it is cached with its callers."""
    # Wrappers for callers that are not there would take half of the time to compile.
    compiled: Any = njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)
    result: F = compiled
    return result


def inlined(function: F) -> F:
    """Compile a function into each of its callers, which stand in the same file, for work that is shorter than a call.

    No references to arrays are counted in it, as numba does otherwise wherever one is handed on: it must make no array
    and return none.
    """
    options = {"nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    compiled: Any = njit(**options, forceinline=True, _nrt=False)(function)
    result: F = compiled
    return result


def cached(function: F) -> F:
    """Compile a function on its first call and keep the machine code for later processes.

    The cache lies where numba puts it (``NUMBA_CACHE_DIR``, beside the package, or the user's cache folder). If
    none of these can be written it lies in a private temporary folder, which begins as a copy of ``NUMBA_CACHE_DIR``;
    if that cannot be had the function is compiled anew in each process.
    """
    compiled: Any = njit(nogil=True, no_cfunc_wrapper=True)(function)
    if hasattr(compiled, "enable_caching"):  # absent with NUMBA_DISABLE_JIT
        _cache(compiled)
    result: F = compiled
    return result


def _cache(compiled: Any) -> None:
    for place in _places():
        try:
            with _placed(place):
                compiled.enable_caching()
        except (RuntimeError, OSError):  # numba: no locator available
            continue
        _forgive(compiled._cache)
        return


def _places() -> Iterator[str]:
    """Cache folders to try, "" being numba's own choice."""
    named = config.CACHE_DIR
    # Numba would leave a named folder that it cannot write for the user's cache folder, and compile all anew.
    if named and os.path.isdir(named) and not os.access(named, os.W_OK) and (private := _private_folder()):
        yield private
    # Without a home numba would make a folder called "~" in the working directory, and load code from it.
    if named or os.path.isabs(os.path.expanduser("~")):
        yield ""
    if private := _private_folder():
        yield private


@contextlib.contextmanager
def _placed(folder: str) -> Iterator[None]:
    """Let numba see `folder` as its cache folder, for the functions that are given a cache inside the block only."""
    before = config.CACHE_DIR
    if folder:
        config.CACHE_DIR = folder
    try:
        yield
    finally:
        config.CACHE_DIR = before


def _private_folder() -> str:
    """Make or find this user's folder for machine code below the temporary folder; "" if it is not safe to use.

    The cache is loaded as code, so a folder that somebody else owns or may write to is refused.
    """
    try:
        folder = Path(tempfile.gettempdir()) / f"scgpt-infer-{os.geteuid()}"
        if not os.path.lexists(folder):
            _bring_kept(folder)
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.lstat()
    except OSError:
        return ""
    ours = stat.S_ISDIR(state.st_mode) and state.st_uid == os.geteuid() and not state.st_mode & 0o077
    return str(folder) if ours else ""


def _bring_kept(folder: Path) -> None:
    """Begin a private folder with what lies in the named one: numba loads from none that it cannot write, and an image
    brings its machine code in such a one.
    """
    if not config.CACHE_DIR or not os.path.isdir(config.CACHE_DIR):
        return
    stage = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        with contextlib.suppress(OSError, shutil.Error):
            shutil.copytree(config.CACHE_DIR, stage, dirs_exist_ok=True)
            stage.chmod(0o700)
            stage.rename(folder)  # unless another process was first
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _forgive(cache: Any) -> None:
    """Let a full disk or a damaged cache file cost a compilation, never the job."""
    load, save = cache.load_overload, cache.save_overload

    def load_or_none(*arguments: Any) -> Any:
        try:
            return load(*arguments)
        except Exception:  # whatever unpickling a damaged file raises
            with contextlib.suppress(OSError):
                cache.flush()  # so that it is written anew
            return None

    def save_if_possible(*arguments: Any) -> None:
        with contextlib.suppress(OSError):
            save(*arguments)

    cache.load_overload, cache.save_overload = load_or_none, save_if_possible
