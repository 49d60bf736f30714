"""What is made once in a run of the tests, by the first of its processes that needs it: `made_once`."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that ``make`` fills, given it empty; whoever comes meanwhile waits. Tests must not change what is in it.

    The processes of one run (pytest-xdist) share it; another run makes its own.
    """
    base = factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "once"
    home.mkdir(exist_ok=True)
    folder, done = home / name, home / f"{name}.done"
    with (home / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a maker that failed
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
