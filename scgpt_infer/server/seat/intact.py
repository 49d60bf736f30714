"""Whether the files that a model runs from are still what they were: `Intact`.

Weights are mapped, not copied: whoever writes into such a file changes what the model computes, without an error. A
file that another one takes the place of (a rename, as every careful writer does) stays as it is for whoever has it
open. In: paths. Out: an error, before an answer is given that may come of other weights.
"""

import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from scgpt_runtime.errors import BundleChangedError

__all__ = ["Intact"]


class Intact:
    """Files that are open and watched. A context manager.

    Parameters
    ----------
    paths
        The files.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self._stack = ExitStack()
        self._states: dict[int, tuple[Path, int, int]] = {}

    def __enter__(self) -> Self:
        for path in self._paths:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._stack.callback(os.close, handle)
            found = os.fstat(handle)
            self._states[handle] = path, found.st_size, found.st_mtime_ns
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._states = {}
        self._stack.close()

    def check(self) -> None:
        """Make sure that nobody has written into a file since it was opened. About a microsecond a file.

        Raises
        ------
        BundleChangedError
            Somebody has.
        """
        for handle, (path, size, time) in self._states.items():
            found = os.fstat(handle)
            if (found.st_size, found.st_mtime_ns) != (size, time):
                raise BundleChangedError(
                    f"{path} was written into while the model ran from it, so that its answers may come of other "
                    "weights; none of them is given. Put a new bundle beside the old one and rename it, or load it "
                    "under another path."
                )
