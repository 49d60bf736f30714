"""What every source of cells can do, whatever it is stored in.

Rows are read by the ranges that a caller names; names are read when they are asked for. A source knows
nothing of vocabularies, models or results.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.summary import BadFile
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import CellsError

if TYPE_CHECKING:
    from typing_extensions import TypeIs

__all__ = [
    "UNREAD",
    "CellPaths",
    "CellSource",
    "CellsIn",
    "NumberedCells",
    "SetOfFiles",
    "Stored",
    "TabledCells",
    "are_paths",
    "refuse_modality",
]

UNREAD = "its file could not be read:"
"""What the reason of a cell begins with whose row could not be read from its file, one of several."""

CellPaths = Path | str | Sequence[Path | str]
"""A file or folder of cells, or several as one data set."""

CellsIn = Literal["rows", "columns"]
"""Where the cells of a text file are, which some do not tell."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An embedding of ours that lies with the cells.

    Attributes
    ----------
    record
        Flat facts of the run that made it, as they stand in ``uns["scgpt_infer"]``.
    n_cells, dim
        Its shape.
    read
        Gives rows start to stop, (n, dim) float32; NaN for a cell without an embedding.
    """

    record: Mapping[str, str | int | float]
    n_cells: int
    dim: int
    read: Callable[[int, int], NDArray[np.float32]]


class CellSource(Protocol):
    """Cells of one file or object, of which one matrix is read."""

    @property
    def path(self) -> Path | None:
        """The file, or None for an object in memory."""
        ...

    @property
    def n_cells(self) -> int:
        """Rows of the matrix."""
        ...

    @property
    def n_genes(self) -> int:
        """Columns of the matrix that is read; those of ``raw`` are its own."""
        ...

    @property
    def counts(self) -> str:
        """The matrix that is read: ``"X"``, ``"layers/NAME"`` or ``"raw/X"``."""
        ...

    @property
    def values(self) -> str:
        """What its values are, recognised from sampled rows: ``"integer"``, ``"log1p"`` or ``"normalised"``."""
        ...

    @property
    def why(self) -> str:
        """Why this matrix is read, in words for the summary."""
        ...

    @property
    def gene_names(self) -> Mapping[str, Sequence[str]]:
        """Gene names by the column they stand in, read when taken.

        Of ``feature_name``, ``gene_symbols``, ``gene_name`` and ``gene_ids`` those that exist, then
        ``index``, then the columns that `gene_column` was asked for.
        """
        ...

    def gene_column(self, name: str) -> Sequence[str]:
        """Gene names of any column; it stands in `gene_names` from then on."""
        ...

    def cell_names(self, start: int, stop: int) -> list[str]:
        """Names of the cells of rows ``start`` to ``stop``."""
        ...

    @property
    def cell_columns(self) -> tuple[str, ...]:
        """Names of the columns of ``obs``, the index not among them; none where the format has no such table."""
        ...

    def cell_column(self, name: str) -> NDArray[np.str_]:
        """A column of ``obs`` as text, empty where a value is missing; ``"index"`` is the names of the cells.

        Raises
        ------
        CellsError
            If there is no such column.
        """
        ...

    def stored(self, key: str) -> Stored | None:
        """The embedding that ``obsm[key]`` holds, where a run of ours wrote it; None for anything else."""
        ...

    def blocks(self, spans: Iterable[range]) -> Iterator[CellBlock]:
        """The cells of each span of rows, in the order of the spans: a block a span."""
        ...

    def sample(self, n: int = 1000) -> CellBlock:
        """About ``n`` cells spread evenly over all rows, the same ones each time."""
        ...

    def close(self) -> None:
        """Give back files; the source cannot be read afterwards."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class TabledCells(Protocol):
    """Cells with a table that an output may keep."""

    def cell_table(self) -> Any:
        """``obs`` of all cells, a pandas DataFrame of the caller's own."""
        ...


@runtime_checkable
class SetOfFiles(Protocol):
    """Cells of several files, of which some may be bad."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files that were asked for."""
        ...

    @property
    def readable(self) -> tuple[Path, ...]:
        """Those that could be opened."""
        ...

    @property
    def n_cells_of(self) -> Mapping[str, int]:
        """Cells of each file that could be opened, in the order of their rows, by a name of its own."""
        ...

    def bad_files(self, reasons: Iterable[str] = ()) -> tuple[BadFile, ...]:
        """Those that could not be opened and have no rows, then those that reasons of bad cells tell of."""
        ...

    def unread(self, start: int, stop: int) -> Mapping[int, str]:
        """Those of the rows ``start`` to ``stop`` that could not be read, with the reason; the last reading counts.

        In their block they have no value.
        """
        ...


@runtime_checkable
class NumberedCells(Protocol):
    """Cells that have a joinid each, by which SOMA and the CELLxGENE Census know them."""

    @property
    def origin(self) -> Mapping[str, str]:
        """Where they are from, for the record, such as ``census_version``; nothing that is not told."""
        ...

    def joinids(self, start: int, stop: int) -> NDArray[np.int64]:
        """Joinids of the cells of rows ``start`` to ``stop``."""
        ...


def are_paths(cells: object) -> "TypeIs[CellPaths]":
    """Whether cells are given by paths, and are no object."""
    return isinstance(cells, (str, Path, list, tuple))


def refuse_modality(where: str, modality: str | None) -> None:
    """Raise `CellsError` where a modality was asked for of cells that have none."""
    if modality is not None:
        raise CellsError(f"{where} has no modalities, and {modality!r} was asked for. Leave the modality out.")
