"""The seam between a run and a file: `Part` goes in, `Sink` takes it, `Target` says what the file shall hold.

A result is a vector and any number of `Column` values for each cell.

`beside` gives the one way in which a file of ours appears: written next to its final name, synced, renamed.
It knows no format.
"""

import errno
import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.errors import OutputError

__all__ = [
    "Column",
    "Dtype",
    "Kind",
    "Part",
    "Record",
    "Sink",
    "State",
    "Table",
    "Target",
    "beside",
    "fsync",
    "matrix_of",
    "no_values",
    "output_errors",
    "record_json",
    "sync",
    "sync_together",
    "table_of",
    "write_all",
]

Record = Mapping[str, str | int | float]
"""Flat facts of a run, as they go into ``uns["scgpt_infer"]``."""


State = tuple[tuple[str, int, int, int], ...]
"""Files by name, size, time in nanoseconds and inode."""

Kind = Literal["embeddings", "cell_types", "imputed_values", "multimodal"]
"""What a result tells, as JSON documents name it."""

Dtype = Literal["float32", "float16"]
"""What the numbers of a vector are stored as."""


@dataclass(frozen=True, slots=True)
class Column:
    """One value for each cell, beside its vector.

    Attributes
    ----------
    name
        Its name in tables.
    words
        The words that its values are the places of; empty for a column of numbers.
    """

    name: str
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """Numbers of each cell beside its vector, as many as the table is wide: of one modality of a cell.

    Attributes
    ----------
    of
        The modality.
    what
        ``embedding``: a vector of this modality alone; ``predicted``: values that the model tells; ``nonzero``: how
        likely it says they are above zero.
    width
        Numbers of a cell.
    features
        What each of them is of; empty for an embedding.
    """

    of: str
    what: Literal["embedding", "predicted", "nonzero"]
    width: int
    features: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name among the tables of a result."""
        return self.of if self.what == "embedding" else f"{self.of}_{self.what}"

    @property
    def heads(self) -> list[str]:
        """Names of its columns where it lies among others."""
        names = self.features or tuple(f"e{number}" for number in range(self.width))
        return [f"{self.of}:{name}{':nonzero' if self.what == 'nonzero' else ''}" for name in names]


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive rows of the result.

    Attributes
    ----------
    first_row
        Row of the first cell in the source.
    vectors
        (n_cells, dim) float32, NaN for a cell without one.
    reasons
        (n_cells,) why a cell has no vector; empty where it has one.
    columns
        Values by the name of their `Column`: (n_cells,) int32 places of words, -1 for none, or float32, NaN for none.
    matrices
        Further numbers, one beside each of a vector: (n_cells, dim) float32 by the name of the matrix; NaN for none.
    tables
        Rows by the name of their `Table`: (n_cells, width) float32; NaN for none.
    """

    first_row: int
    vectors: NDArray[np.float32]
    reasons: tuple[str, ...]
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    matrices: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    tables: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.reasons)

    @property
    def stop(self) -> int:
        """Row behind the last cell."""
        return self.first_row + len(self.reasons)


@dataclass(frozen=True, slots=True)
class Target:
    """What a file shall hold, known before the first cell.

    Attributes
    ----------
    path
        Final name.
    n_cells, dim
        Shape of the embedding.
    key
        Its name under ``obsm``, where the format has one.
    names
        Names of the cells of rows start to stop.
    genes
        Names of the genes, for a format that keeps them.
    source
        The ``.h5ad`` file or ``.zarr`` store that the cells come from; None when they come from elsewhere.
    state
        Of the source when the work began, as `copied.state_of` gives it: what is copied later is to be the same. Empty:
        that of when the output is begun.
    obs
        Gives the table of all cells, a pandas DataFrame, for a format that keeps it; None where there is none, or
        `source` has it.
    joinids
        Joinids of the cells of rows start to stop, (n,) int64; None where the cells have none.
    obs_only
        Leave the source's matrices out.
    columns
        Values that go beside the vectors, in the order of tables.
    kind
        What the result tells.
    with_vectors
        Whether a format that can do without the vectors keeps them; ``.h5ad`` and ``.npy`` always do.
    prefix
        What the names of columns begin with where they lie among the user's own (``obs``).
    features
        What each number of a vector is of, such as genes; empty for an embedding, whose numbers have no names.
    matrices
        Names of further matrices, which have a number for each feature.
    tables
        Further tables.
    rows
        Rows of the input that the cells are; None: the first ones.
    row
        What a row is of. Tables head their first column with it, and tell errors of cells alone: nothing else is in a
        result without a vector.
    dtype
        What the numbers of vectors, matrices and tables are stored as; those of columns are float32 always.
    """

    path: Path
    n_cells: int
    dim: int
    key: str
    names: Callable[[int, int], list[str]]
    genes: Sequence[str] = ()
    source: Path | None = None
    obs: Callable[[], Any] | None = None
    joinids: Callable[[int, int], NDArray[np.int64]] | None = None
    obs_only: bool = False
    columns: tuple[Column, ...] = ()
    kind: Kind = "embeddings"
    with_vectors: bool = True
    prefix: str = "scgpt_"
    features: tuple[str, ...] = ()
    matrices: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    rows: Sequence[int] | None = None
    row: Literal["cell", "gene"] = "cell"
    dtype: Dtype = "float32"
    state: State = ()

    @property
    def itemsize(self) -> int:
        """Bytes of a stored number."""
        return np.dtype(self.dtype).itemsize

    def stored(self, numbers: NDArray[np.float32]) -> NDArray[Any]:
        """Numbers of a part as they are stored.

        Raises
        ------
        OutputError
            One is beyond float16.
        """
        if self.dtype == "float32":
            return numbers
        with np.errstate(over="ignore"):  # told below
            stored = numbers.astype(np.float16)
        beyond = np.isinf(stored) & np.isfinite(numbers)
        if beyond.any():
            raise OutputError(
                f"{self.path} cannot hold {numbers[beyond][0]:g} as float16, which ends at 65,504. Store float32 "
                '(--dtype float32, dtype="float32").'
            )
        return stored


class Sink(Protocol):
    """Takes parts in row order and makes them a file.

    It comes from a context manager; leaving that without a commit leaves nothing behind.
    """

    def write(self, part: Part) -> None:
        """Take the next rows."""

    def commit(self, record: Record) -> None:
        """Add the facts of the run, finish the file and give it its final name."""


def matrix_of(part: Part, name: str) -> NDArray[np.float32]:
    """(n_cells, dim) a further matrix of a part; NaN where a part that a lost device left unanswered has none."""
    found = part.matrices.get(name)
    return np.full_like(part.vectors, np.nan) if found is None else found


def table_of(part: Part, table: Table) -> NDArray[np.float32]:
    """(n_cells, width) a table of a part; NaN where a part that a lost device left unanswered has none."""
    found = part.tables.get(table.name)
    return np.full((part.n_cells, table.width), np.nan, np.float32) if found is None else found


def no_values(columns: Sequence[Column], n_cells: int) -> dict[str, NDArray[Any]]:
    """What the columns hold for cells that have no result."""
    return {
        column.name: np.full(n_cells, -1, np.int32) if column.words else np.full(n_cells, np.nan, np.float32)
        for column in columns
    }


@contextmanager
def beside(final: Path) -> Iterator[Path]:
    """Give a temporary file in the folder of `final`; it is removed on the way out if it is still there.

    Parameters
    ----------
    final
        Name that the file will get by `os.replace`; its folder exists.

    Yields
    ------
    Path
        An empty file with the permissions that a new file (or the one to be replaced) has.
    """
    with output_errors(final):
        handle, name = tempfile.mkstemp(prefix=f".{final.name[:64]}.", suffix=".part", dir=final.parent)
    temporary = Path(name)
    try:
        _permit(handle, final)
        os.close(handle)
        yield temporary
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def sync(temporary: Path, final: Path, check: Callable[[], None] | None = None) -> None:
    """Bring a finished file to the disk and give it its final name, so that a crash leaves all of it or none.

    Parameters
    ----------
    temporary, final
        Its name now and then.
    check
        Raises if the file must not take the name after all. No other job of ours that checks takes a name in the
        same folder between the check and the renaming.
    """
    fsync(temporary)
    with nullcontext() if check is None else _alone_in(final.parent):
        if check is not None:
            check()
        os.replace(temporary, final)
    fsync(final.parent)


def sync_together(temporaries: Mapping[Path, Path]) -> None:
    """As `sync` for the files of one output, from final names to temporary ones, the main file last.

    All are on the disk before the first takes its name, so that little can go wrong between the names.
    """
    for temporary in temporaries.values():
        fsync(temporary)
    for final, temporary in temporaries.items():
        os.replace(temporary, final)
    for folder in {final.parent for final in temporaries}:
        fsync(folder)


@contextmanager
def output_errors(final: Path) -> Iterator[None]:
    """Turn what the operating system says while a file is written into `OutputError`."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        found = "the disk is full" if full else f"{error}"
        remedy = "Free some space, or write to another disk." if full else "Write somewhere else."
        raise OutputError(f"{final} could not be written: {found}. {remedy}") from error


def write_all(file: FileIO, data: bytes | memoryview) -> None:
    """Write all of `data` to an unbuffered file, so that nothing is left for closing to fail on."""
    view = memoryview(data).cast("B")
    while view:
        view = view[file.write(view) :]


def record_json(record: Record) -> bytes:
    """The facts of a run as a JSON file, for formats that cannot hold them."""
    return (json.dumps(dict(record), indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


def fsync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder: a lock on the file itself would go with it when it is replaced."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network disks have no locks; the check alone must do there
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _permit(handle: int, final: Path) -> None:
    """Give a temporary file the owner and mode of the file that it replaces, or those of a new file."""
    if final.exists():
        old = final.stat()
        with suppress(PermissionError):  # only root may give files away
            os.fchown(handle, old.st_uid, old.st_gid)
        os.fchmod(handle, old.st_mode & 0o7777)
        return
    mask = os.umask(0)
    os.umask(mask)
    os.fchmod(handle, 0o666 & ~mask)
