"""Names of cells of small files, kept from when their rows are read until they are asked for: `KeptNames`.

Open sources come in, names go out. Rows are read ahead of names: a small file would be opened a second time for them.
"""

from collections import OrderedDict
from pathlib import Path
from threading import Lock

from scgpt_infer.readers.source import CellSource

__all__ = ["KeptNames"]

SMALL = 4096
"""Cells of a file that is small."""

MOST = 1 << 16
"""Names that are kept."""


class KeptNames:
    """Names by file; those that were taken first go first."""

    def __init__(self) -> None:
        self._names: OrderedDict[Path, list[str]] = OrderedDict()
        self._n_names = 0
        self._lock = Lock()

    def take(self, path: Path, source: CellSource) -> None:
        """Keep the names of a file if it is small."""
        if source.n_cells > SMALL or path in self._names:
            return
        names = source.cell_names(0, source.n_cells)
        with self._lock:
            self._names[path] = names
            self._n_names += len(names)
            while self._n_names > MOST:
                self._n_names -= len(self._names.popitem(last=False)[1])

    def of(self, path: Path) -> list[str] | None:
        """All names of a file; None where they are not kept."""
        with self._lock:
            return self._names.get(path)
