"""An ``.h5ad`` file with an embedding: its table of cells, its embeddings and the record of the run that made them.

In: a path. Out: `EmbeddedFile`. Matrices of counts are never read, and need not be there.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers.damage import reading
from scgpt_infer.readers.frame import Frame
from scgpt_infer.readers.h5ad import open_hdf5
from scgpt_infer.readers.names import INDEX, no_column
from scgpt_infer.readers.stored import flat
from scgpt_infer.writers.h5ad import RECORD
from scgpt_runtime.errors import CellsError

__all__ = ["EmbeddedFile"]

RANGE_ROWS = 65_536
"""Rows that are read at a time."""

KEY = "X_scGPT"
"""Name of the embedding where the file does not tell."""


class EmbeddedFile:
    """A file that ``embed`` or ``annotate`` wrote, or one like it. A context manager.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    record
        ``uns["scgpt_infer"]``: flat facts of the run, empty where there are none.
    columns
        Names of the columns of ``obs``.
    n_cells
        Number of cells.

    Raises
    ------
    CellsError
        If it is no such file, is damaged, or has no cells.
    """

    def __init__(self, path: Path) -> None:
        self.path, where = path, str(path)
        self._file = open_hdf5(path, "an .h5ad file with embedded cells")
        try:
            with reading(where):
                obs, self._obsm, uns = (self._file.get(name) for name in ("obs", "obsm", "uns"))
            if obs is None:
                raise CellsError(
                    f"{path} has no table of cells (obs); expected an .h5ad file that embed or annotate wrote."
                )
            self._obs = Frame(obs, f"obs of {path}")
            with reading(f"uns of {path}"):
                told = uns[RECORD] if uns is not None and RECORD in uns else {}
                self.record: Mapping[str, str | int | float] = flat(told) if hasattr(told, "keys") else {}
        except BaseException:
            self._file.close()
            raise
        self.columns = tuple(name for name in self._obs.columns if name != INDEX)
        self.n_cells = self._obs.n_rows
        if self.n_cells == 0:
            self.close()
            raise CellsError(f"{path} has no cells, so there is nothing to report. Check how the file was filtered.")

    def column(self, name: str) -> list[str]:
        """A column of ``obs`` as text, empty where a value is missing.

        A list, since an array of text would give every cell the room of the longest one.

        Raises
        ------
        CellsError
            If there is no such column.
        """
        if name not in (*self.columns, *self._obs.named):
            raise no_column(f"obs of {self.path}", name, self.columns)
        return ["" if value == "nan" else value for value in self._obs.column(name)]

    def names(self, rows: NDArray[np.int64]) -> list[str]:
        """Names of some cells, whose rows are in order."""
        found: list[str] = []
        for start in range(0, self.n_cells, RANGE_ROWS):
            here = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + RANGE_ROWS)] - start
            if len(here):
                told = self._obs.column(INDEX, start, min(start + RANGE_ROWS, self.n_cells))
                found += [told[row] for row in here.tolist()]
        return found

    def key(self, asked: str | None = None) -> str:
        """Name of the embedding: the one asked for, else the record's, else scGPT's own."""
        return asked or str(self.record.get("key", KEY))

    def has_vector(self, key: str) -> NDArray[np.bool_]:
        """(n_cells,) whether each cell has a finite row under ``obsm[key]``.

        Raises
        ------
        CellsError
            If ``obsm`` has no such array of numbers.
        """
        return np.concatenate([np.isfinite(rows).all(axis=1) for rows in self._ranges(key)])

    def vectors(self, key: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n_rows, dim) float32 of some cells, whose rows are in order, under ``obsm[key]``."""
        kept, start = [], 0
        for values in self._ranges(key):
            here = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + len(values))] - start
            kept.append(values[here].astype(np.float32))
            start += len(values)
        return np.concatenate(kept)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ranges(self, key: str) -> Iterator[NDArray[Any]]:
        array = self._array(key)
        for start in range(0, self.n_cells, RANGE_ROWS):
            with reading(f"obsm[{key!r}] of {self.path}"):
                yield np.asarray(array[start : start + RANGE_ROWS])

    def _array(self, key: str) -> Any:
        with reading(f"obsm of {self.path}"):
            names = sorted(self._obsm) if hasattr(self._obsm, "keys") else []
            found = self._obsm[key] if key in names else None
        if found is None:
            raise CellsError(
                f"{self.path} has no embedding {key!r} in obsm, which holds {', '.join(names) or 'nothing'}. Make one "
                "with scgpt-infer embed or annotate, or name one that is there with --key."
            )
        shape: tuple[int, ...] = getattr(found, "shape", ())
        kind = getattr(getattr(found, "dtype", None), "kind", "")  # a table has no one kind
        if len(shape) != 2 or shape[0] != self.n_cells or shape[1] < 1 or kind not in "fiu":
            raise CellsError(
                f"obsm[{key!r}] of {self.path} is no array of numbers with a row for each of {self.n_cells:,} cells. "
                "Name another with --key."
            )
        return found
