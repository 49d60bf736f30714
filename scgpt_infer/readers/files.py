"""Several files of cells as one data set: `open_files`.

In: paths, and what opens one. Out: a `CellSource` with the cells of the first file first, over the genes of all of
them. Files that cannot be opened are left out and listed. What formats there are, it does not know.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers import matrix
from scgpt_infer.readers.gene_union import GeneUnion, Names
from scgpt_infer.readers.kept_open import KeptOpen
from scgpt_infer.readers.members import names_of
from scgpt_infer.readers.names import INDEX, no_column
from scgpt_infer.readers.source import UNREAD, CellSource, Stored, TabledCells
from scgpt_infer.readers.stacked import FileCells, StackedRows, state_of, unread_from
from scgpt_infer.readers.tables import stacked_table
from scgpt_infer.summary import BadFile
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import CellsError

__all__ = ["FILE", "FilesCells", "open_files"]

FILE = "scgpt_file"
"""Column of ``obs`` that names the file of each cell."""

SHOWN = 3
"""Files that a message names."""


def open_files(
    paths: Sequence[Path], opened: Callable[[Path], CellSource], *, path: Path | None = None, strict: bool = False
) -> "FilesCells":
    """Open files as one data set.

    Each is opened once to see what is in it; of all of them a few stay open.

    Parameters
    ----------
    paths
        The files.
    opened
        Opens one.
    path
        The folder that they were named by.
    strict
        Whether a file that cannot be read ends it, at once or on the way.

    Raises
    ------
    CellsError
        If none can be opened; or one cannot, and `strict`.
    """
    kept = KeptOpen(opened)
    try:
        return FilesCells(paths, kept, path, strict)
    except BaseException:
        kept.close()
        raise


class FilesCells:
    """A `CellSource` over several files. Cells keep their names; the column `FILE` of ``obs`` tells their files.

    Parameters
    ----------
    paths, path, strict
        See `open_files`.
    kept
        Opens the files, few at a time.

    Attributes
    ----------
    paths
        The files that were asked for.
    files
        Those of them that are read.
    """

    def __init__(self, paths: Sequence[Path], kept: KeptOpen, path: Path | None, strict: bool) -> None:
        self.path, self.paths = path, tuple(paths)
        self._kept, self._strict = kept, strict
        found = _Found(kept, strict)
        for one, name in zip(paths, names_of(paths), strict=True):
            found.take(one, name)
        self._bad = tuple(found.bad)
        self._take(found)
        self.counts, self.values, self.why = _counts(self.files, self.n_genes)
        columns = dict.fromkeys(column for file in self.files for column in file.columns if column != FILE)
        self.cell_columns = (FILE, *columns)

    def _take(self, found: "_Found") -> None:
        self.files, self.gene_names = found.checked(), found.gene_names
        self._rows = StackedRows(self.files, len(found.union), self._kept, self._strict)
        self.n_cells, self.n_genes = self._rows.shape

    @property
    def rows(self) -> StackedRows:
        """The rows of all files."""
        return self._rows

    @property
    def readable(self) -> tuple[Path, ...]:
        """Paths of `files`."""
        return tuple(file.path for file in self.files)

    @property
    def n_cells_of(self) -> dict[str, int]:
        """Cells of each file, by the name that the column `FILE` has for it."""
        return {file.name: file.n_cells for file in self.files}

    def gene_column(self, name: str) -> Sequence[str]:
        """Gene names of any column of var, which all files must have; genes are then one where they agree in it too."""
        if name not in self.gene_names:
            found = _Found(self._kept, True, name)
            for file in self.files:
                found.take(file.path, file.name)
            self._take(found)
        return self.gene_names[name]

    def cell_names(self, start: int, stop: int) -> list[str]:
        """Names of the cells of rows ``start`` to ``stop``, as their files have them."""
        return self._rows.names(start, stop)

    def cell_column(self, name: str) -> NDArray[np.str_]:
        """A column of obs as text, empty in files that do not have it; `FILE` names the files."""
        if name not in (*self.cell_columns, INDEX):
            raise no_column(f"obs of {len(self.files):,} files", name, self.cell_columns)
        return np.concatenate([self._column(file, name) for file in self.files])

    def _column(self, file: FileCells, name: str) -> NDArray[np.str_]:
        if name == FILE or name not in (*file.columns, INDEX):
            return np.full(file.n_cells, file.name if name == FILE else "")
        with self._kept.source(file.path) as source:
            return source.cell_column(name)

    def cell_table(self) -> Any:
        """The table ``obs`` of all files below each other, a pandas DataFrame with the column `FILE` in front."""
        return stacked_table([(file.name, self._table(file)) for file in self.files], FILE)

    def _table(self, file: FileCells) -> Any:
        import pandas as pd  # slow to import, and few runs need it

        with self._kept.source(file.path) as source:
            if isinstance(source, TabledCells):
                return source.cell_table()
            return pd.DataFrame(index=pd.Index(source.cell_names(0, file.n_cells), dtype=object))

    def stored(self, key: str) -> Stored | None:
        """None: it is not looked for."""
        return None

    def blocks(self, spans: Iterable[range]) -> Iterator[CellBlock]:
        """The cells of each span of rows; see `StackedRows.read`."""
        return matrix.blocks(self._rows, spans)

    def unread(self, start: int, stop: int) -> dict[int, str]:
        """Those of the rows ``start`` to ``stop`` that could not be read, with the reason."""
        return {
            row: why
            for rows, why in [*self._rows.unread.items()]  # another thread may add to it
            for row in range(max(start, rows.start), min(stop, rows.stop))
        }

    def bad_files(self, reasons: Iterable[str] = ()) -> tuple[BadFile, ...]:
        """Files that could not be opened, then those that reasons of bad cells tell of."""
        broken: dict[Path, str] = {}
        for reason in reasons:
            for file in self.files if reason.startswith(UNREAD) else ():
                begin = unread_from(file.name, "")
                if reason.startswith(begin):
                    broken.setdefault(file.path, reason.removeprefix(begin))
        return (*self._bad, *(BadFile(str(path), why) for path, why in broken.items()))

    def sample(self, n: int = 1000) -> CellBlock:
        """About ``n`` cells spread evenly over all files."""
        block = matrix.sample(self._rows, n)
        self._rows.unread.clear()  # what is read of them for a result may go better
        return block

    def close(self) -> None:
        """Close the files."""
        self._kept.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Found:
    """Files looked at so far.

    Parameters
    ----------
    kept
        Opens them.
    strict
        Whether one that cannot be opened is an error.
    column
        A further column of gene names.
    """

    def __init__(self, kept: KeptOpen, strict: bool, column: str | None = None) -> None:
        self._kept, self._strict, self._column = kept, strict, column
        self._union: GeneUnion | None = None
        self._known: dict[bytes, NDArray[np.int32]] = {}  # most files of a set have the same genes
        self._next = 0
        self.files: list[FileCells] = []
        self.bad: list[BadFile] = []

    @property
    def union(self) -> GeneUnion:
        if self._union is None:
            listed = "; ".join(one.reason for one in self.bad[:SHOWN])
            raise CellsError(f"None of the {len(self.bad):,} files can be read: {listed}")
        return self._union

    @property
    def gene_names(self) -> Mapping[str, Sequence[str]]:
        return self.union.names

    def checked(self) -> tuple[FileCells, ...]:
        """The files, of which there is at least one."""
        _ = self.union
        return tuple(self.files)

    def take(self, path: Path, name: str) -> None:
        """Look at a file."""
        try:
            self.files.append(self._looked_at(path, name))
        except CellsError as error:
            if self._strict:
                raise
            self.bad.append(BadFile(str(path), str(error)))
        else:
            self._next += self.files[-1].n_cells

    def _looked_at(self, path: Path, name: str) -> FileCells:
        with self._kept.source(path) as source:
            state = state_of(path)
            if self._column is not None:
                source.gene_column(self._column)
            genes = self._placed({column: source.gene_names[column] for column in source.gene_names}, str(path))
            told = source.counts, source.values, source.why
            return FileCells(path, name, self._next, source.n_cells, genes, *told, source.cell_columns, state)

    def _placed(self, names: Names, where: str) -> NDArray[np.int32]:
        told = sha256()
        for column, values in names.items():
            told.update("\0".join([column, *values, ""]).encode())
        digest = told.digest()
        if digest not in self._known:
            if self._union is None:
                self._union = GeneUnion(names)
            self._known[digest] = self._union.add(names, where)
        return self._known[digest]


def _counts(files: Sequence[FileCells], n_genes: int) -> tuple[str, str, str]:
    """The matrices that are read, what their values are, and why it is these."""
    counts, values = (Counter(getattr(file, name) for file in files) for name in ("counts", "values"))
    why = [f"{len(files):,} files with {n_genes:,} genes in all"]
    if len(counts) == 1:
        why.insert(0, files[0].why)
    else:
        why.append(f"the matrix is {_differing(files, 'counts', counts)}")
    if len(values) > 1:
        why.append(f"the values are {_differing(files, 'values', values)}")
    return ", ".join(counts), ", ".join(values), "; ".join(why)


def _differing(files: Sequence[FileCells], what: str, found: Mapping[str, int]) -> str:
    """In words, which files have something else than most."""
    most = max(found, key=lambda one: found[one])
    told = [f"{most} in {found[most]:,} of them"]
    for other in found:
        if other != most:
            named = [file.name for file in files if getattr(file, what) == other]
            more = f" and {len(named) - SHOWN:,} more" if len(named) > SHOWN else ""
            told.append(f"{other} in {', '.join(named[:SHOWN])}{more}")
    return ", ".join(told)
