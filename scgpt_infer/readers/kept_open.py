"""Sources that are opened when they are read, of which few stay open: `KeptOpen`.

Paths come in, open sources go out, one at a time. It knows nothing of what is in them.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock

from scgpt_infer.readers.source import CellSource

__all__ = ["KeptOpen"]

KEPT = 2
"""Sources that stay open: rows are read in order, and names in the same order behind them."""


class KeptOpen:
    """Opens sources, and closes the one that was longest not used when they become too many.

    Parameters
    ----------
    opened
        Opens one.
    kept
        Sources that stay open.
    """

    def __init__(self, opened: Callable[[Path], CellSource], kept: int = KEPT) -> None:
        self._opened, self._kept = opened, kept
        self._open: OrderedDict[Path, CellSource] = OrderedDict()
        # Rows are read in one thread and names in another: neither may lose its source to the other.
        self._lock = RLock()

    @contextmanager
    def source(self, path: Path) -> Iterator[CellSource]:
        """An open source, for the caller alone inside of the ``with``.

        Raises
        ------
        CellsError
            If it cannot be opened.
        """
        with self._lock:
            if path not in self._open:
                while len(self._open) >= self._kept:
                    self._open.popitem(last=False)[1].close()
                self._open[path] = self._opened(path)
            self._open.move_to_end(path)
            yield self._open[path]

    def close(self) -> None:
        """Close all."""
        with self._lock:
            while self._open:
                self._open.popitem()[1].close()
