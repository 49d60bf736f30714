"""The rows of several files, one file below the other, over one list of genes.

Facts of files and their open sources come in, row ranges over all of them go out as `CellBlock`. A piece of a file that
cannot be read becomes rows without a value, and is remembered with its reason.
"""

import os
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers.kept_names import KeptNames
from scgpt_infer.readers.kept_open import KEPT, KeptOpen
from scgpt_infer.readers.room import Weighed
from scgpt_infer.readers.source import UNREAD
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import CellsError

__all__ = ["FileCells", "StackedRows", "state_of", "unread_from"]

VALUE_BYTES = 8
"""Of a value and its column."""


@dataclass(frozen=True, slots=True)
class FileCells:
    """One file of a set.

    Attributes
    ----------
    path
        The file.
    name
        What tells it from the others: its path below the folder that all have in common.
    first_row, n_cells
        Where its cells are among those of the set, and how many.
    genes
        (n_genes,) int32 column of the set that each of its genes has.
    counts, values, why
        The matrix that is read, what its values are and why it is this one; see `CellSource`.
    columns
        Names of the columns of its ``obs``.
    state
        Size and time of its last change when it was opened.
    """

    path: Path
    name: str
    first_row: int
    n_cells: int
    genes: NDArray[np.int32]
    counts: str
    values: str
    why: str
    columns: tuple[str, ...]
    state: tuple[int, int]


def state_of(path: Path) -> tuple[int, int]:
    """Size and time of the last change of a file or folder.

    Raises
    ------
    CellsError
        If it is not there.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        raise CellsError(
            f"{path} is not there any more: {error.strerror}. Bring it back and run the same command again."
        ) from error
    return found.st_size, found.st_mtime_ns


def _check_same(file: FileCells) -> None:
    """Raise where a file is not what it was when the set was opened: before it is read, and after."""
    if state_of(file.path) != file.state:
        raise CellsError(
            f"{file.path} was changed while its cells were read. Run the command again when nothing writes to it."
        )


def unread_from(name: str, why: str) -> str:
    """The reason of a cell whose row could not be read from a file, by the name that the file has in its set."""
    return f"{UNREAD} {name}: {why}"


def _why(error: CellsError, file: FileCells) -> str:
    """What went wrong, in words that are the same wherever the set lies and however it was named."""
    paths = {str(file.path), os.path.abspath(file.path), os.path.realpath(file.path)}
    known = "|".join(re.escape(path) for path in sorted(paths, key=len, reverse=True))
    return re.sub(known, lambda found: file.name, str(error.__cause__ or error).splitlines()[0])


class StackedRows:
    """Rows over all files.

    Parameters
    ----------
    files
        At least one, in the order of their rows.
    n_genes
        Columns over all files.
    kept
        Opens the files.
    strict
        Whether a piece that cannot be read is an error.
    """

    def __init__(self, files: Sequence[FileCells], n_genes: int, kept: KeptOpen, strict: bool) -> None:
        self._files, self._kept, self._strict = files, kept, strict
        self._firsts = [file.first_row for file in files]
        self.shape = (files[-1].first_row + files[-1].n_cells, n_genes)
        self._names = KeptNames()
        self.unread: dict[range, str] = {}

    def pieces(self, start: int, stop: int) -> Iterator[tuple[FileCells, int, int]]:
        """The files that rows ``start`` to ``stop`` lie in, and which rows of each they are, from and to."""
        number = bisect_right(self._firsts, start) - 1
        while start < stop:
            file = self._files[number]
            end = min(stop, file.first_row + file.n_cells)
            yield file, start - file.first_row, end - file.first_row
            start, number = end, number + 1

    def read(self, start: int, stop: int) -> CellBlock:
        """Rows ``start`` to ``stop``; those of a piece that cannot be read have no value, and are in `unread`.

        Raises
        ------
        CellsError
            If a file is gone, or is not what it was when the set was opened; or, where it is asked for, cannot be read.
        """
        parts = [self._piece(*piece) for piece in self.pieces(start, stop)]
        if not parts:
            return CellBlock(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32), start)
        counts = np.concatenate([np.zeros(1, np.int64), *(np.diff(part.indptr) for part in parts)])
        indices, data = (np.concatenate([getattr(part, name) for part in parts]) for name in ("indices", "data"))
        return CellBlock(np.cumsum(counts), indices, data, start)

    def _piece(self, file: FileCells, low: int, high: int) -> CellBlock:
        _check_same(file)
        rows = range(file.first_row + low, file.first_row + high)
        self.unread.pop(rows, None)
        try:
            with self._kept.source(file.path) as source:
                (block,) = source.blocks([range(low, high)])
                self._names.take(file.path, source)
        except CellsError as error:
            _check_same(file)
            if self._strict:
                raise
            self.unread[rows] = unread_from(file.name, _why(error, file))
            return CellBlock(np.zeros(high - low + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32), low)
        _check_same(file)
        return CellBlock(block.indptr, _moved(block.indices, file.genes), block.data, block.first_row)

    def names(self, start: int, stop: int) -> list[str]:
        """Names of the cells of rows ``start`` to ``stop``, as their files have them.

        Those that cannot be read are file and row.
        """
        pieces = self.pieces(start, min(stop, self.shape[0]))
        return [name for piece in pieces for name in self._names_of(*piece)]

    def _names_of(self, file: FileCells, low: int, high: int) -> list[str]:
        kept = self._names.of(file.path)
        if kept is not None:
            return kept[low:high]
        try:
            with self._kept.source(file.path) as source:
                self._names.take(file.path, source)
                return source.cell_names(low, high)
        except CellsError:
            _check_same(file)
            if self._strict:
                raise
            return [f"{file.name}:{row}" for row in range(low, high)]

    def weight(self, n_rows: int, widest: int) -> int:
        """Most bytes that come up while rows are read; see `scgpt_infer.readers.room.Weighed`.

        As much as of the largest files, as many of them as stay open: each may hold what reading it took. The rows are
        there once more while they are put together.
        """
        weights, values = list[int](), VALUE_BYTES * n_rows * widest
        for file in self._files:
            with self._kept.source(file.path) as source:
                rows = getattr(source, "rows", None)
                weights.append(rows.weight(n_rows, widest) if isinstance(rows, Weighed) else 3 * values)
        return sum(sorted(weights)[-KEPT:]) + values

    def close(self) -> None:
        """Close the files."""
        self._kept.close()


def _moved(indices: NDArray[np.int32], genes: NDArray[np.int32]) -> NDArray[np.int32]:
    """Columns of a file as those of the set; one that lies outside of the file lies outside of the set."""
    inside = (indices >= 0) & (indices < len(genes))
    if inside.all():
        return genes[indices]
    return np.where(inside, genes[np.where(inside, indices, 0)], np.int32(-1))
