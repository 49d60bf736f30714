"""Cells of an h5ad file, streamed with h5py: nothing of the size of the file is ever in memory."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py
import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers import matrix
from scgpt_infer.readers.counts import choose
from scgpt_infer.readers.damage import reading
from scgpt_infer.readers.elements import open_rows
from scgpt_infer.readers.frame import Frame
from scgpt_infer.readers.matrix import Rows
from scgpt_infer.readers.names import INDEX, GeneNames, cell_text, no_column, texts
from scgpt_infer.readers.source import Stored
from scgpt_infer.readers.stored import embedding
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import CellsError

__all__ = ["H5adCells"]

# A compressed chunk is unpacked whole: one that two row ranges share stays in memory between them.
# (For what h5py itself unpacks: names, and matrices that `scgpt_infer.readers.chunks` leaves to it.)
CHUNK_CACHE_BYTES = 32 << 20
CHUNK_CACHE_SLOTS = 10_007
SIGNATURE = b"\x89HDF\r\n\x1a\n"


class H5adCells:
    """A `CellSource` over an h5ad file.

    Parameters
    ----------
    path
        The file.
    layer
        The matrix to read, see `scgpt_infer.readers.open_cells`.
    threads
        Threads that inflate compressed values, see `scgpt_infer.readers.open_cells`.

    Raises
    ------
    CellsError
        If it is no h5ad file, is damaged, has no cells or genes, or nothing in it can be embedded.
    """

    def __init__(self, path: Path, *, layer: str | None = None, threads: int | None = None) -> None:
        self.path = path
        self._file = _open(path)
        try:
            self._obs, var, raw_var = _tables(self._file, path)
            matrices = _matrices(self._file, path, self._obs, var, raw_var, threads)
            with reading(str(path)):
                logged = "uns/log1p" in self._file
            counts = choose(matrices, layer, logged, str(path))
        except BaseException:
            self._file.close()
            raise
        self._rows = counts.rows
        self.counts, self.values, self.why = counts.name, counts.values, counts.why
        self.n_cells, self.n_genes = counts.rows.shape
        genes = raw_var if counts.name == "raw/X" and raw_var is not None else var
        where = f"{'raw ' if genes is raw_var else ''}var of {path}"
        self.gene_names = GeneNames([*genes.columns, *genes.named], genes.column, where)
        self.cell_columns = tuple(name for name in self._obs.columns if name != INDEX)

    def gene_column(self, name: str) -> Sequence[str]:
        """Gene names of any column of var."""
        return self.gene_names.ask(name)

    def cell_names(self, start: int, stop: int) -> list[str]:
        """Names of the cells of rows ``start`` to ``stop``."""
        return self._obs.column(INDEX, start, stop)

    def cell_column(self, name: str) -> NDArray[np.str_]:
        """A column of obs as text."""
        if name not in (*self.cell_columns, *self._obs.named, INDEX):
            raise no_column(f"obs of {self.path}", name, self.cell_columns)
        return cell_text(self._obs.column(name))

    def stored(self, key: str) -> Stored | None:
        """The embedding of ours that ``obsm[key]`` holds."""
        with reading(str(self.path)):
            obsm, uns = self._file.get("obsm"), self._file.get("uns")
        return embedding(obsm, uns, key, self.n_cells, str(self.path))

    def blocks(self, range_rows: int, stop: int | None = None) -> Iterator[CellBlock]:
        """The cells in order, in blocks of ``range_rows`` from row 0, up to row ``stop``."""
        return matrix.blocks(self._rows, range_rows, stop)

    def sample(self, n: int = 1000) -> CellBlock:
        """About ``n`` cells spread evenly over the file."""
        return matrix.sample(self._rows, n)

    def close(self) -> None:
        """Close the file."""
        self._rows.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open(path: Path) -> h5py.File:
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
    except OSError as error:
        raise CellsError(f"{path} cannot be opened: {error.strerror}. Check the path and its permissions.") from error
    if not head:
        raise CellsError(f"{path} is empty (0 bytes); expected an h5ad file. Copy or download it again.")
    # A cut file may fail the library's own test and yet bear the signature: then it is damaged, not another format.
    if head != SIGNATURE and not h5py.is_hdf5(path):
        raise CellsError(
            f"{path} is not an HDF5 file (it begins with {head!r}); expected an h5ad file. "
            "Check what it is, unpack it if it is packed, or convert it with scanpy."
        )
    with reading(str(path)):
        # "best-effort": file systems without locks are common on clusters.
        return h5py.File(path, "r", locking="best-effort", rdcc_nbytes=CHUNK_CACHE_BYTES, rdcc_nslots=CHUNK_CACHE_SLOTS)


def _tables(file: h5py.File, path: Path) -> tuple[Frame, Frame, Frame | None]:
    with reading(str(path)):
        parts = texts(file)
        raw = file.get("raw/var", file.get("raw.var"))
        tables = [file.get("obs"), file.get("var")]
    if "mod" in parts:
        raise CellsError(
            f"{path} is a MuData file; expected h5ad. Write one modality of it, for example mdata.mod['rna']."
        )
    if any(table is None for table in tables):
        raise CellsError(
            f"{path} is HDF5 but not h5ad: it holds {', '.join(parts) or 'nothing'}; expected X, obs and var. "
            "Convert it with scanpy."
        )
    obs, var = Frame(tables[0], f"obs of {path}"), Frame(tables[1], f"var of {path}")
    if obs.n_rows == 0 or var.n_rows == 0:
        raise CellsError(
            f"{path} has {obs.n_rows:,} cells and {var.n_rows:,} genes; there is nothing to embed. "
            "Check how the file was filtered."
        )
    return obs, var, None if raw is None else Frame(raw, f"raw var of {path}")


def _matrices(
    file: h5py.File, path: Path, obs: Frame, var: Frame, raw_var: Frame | None, threads: int | None
) -> dict[str, Callable[[], Rows]]:
    shape = (obs.n_rows, var.n_rows)
    with reading(str(path)):
        found = {name: (file[name], shape) for name in ("X",) if name in file and not _is_null(file[name])}
        layers = file.get("layers", {})
        found |= {f"layers/{name}": (layers[name], shape) for name in layers}
        raw = file.get("raw/X", file.get("raw.X"))
        if raw is not None and raw_var is not None:
            found["raw/X"] = (raw, (obs.n_rows, raw_var.n_rows))
    return {
        name: partial(open_rows, element, f"{name} of {path}", expected, threads)
        for name, (element, expected) in found.items()
    }


def _is_null(element: h5py.Group | h5py.Dataset) -> bool:
    return isinstance(element, h5py.Dataset) and element.shape is None
