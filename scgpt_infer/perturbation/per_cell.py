"""Profiles of single cells after each perturbation, written into a ``.h5ad`` file as they come.

In: blocks of predictions in any order. Out: the file, rows by perturbation and then by cell. Nothing holds more than a
batch of them.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from scgpt_infer.perturbation.predicting import Predicted
from scgpt_infer.sizes import size
from scgpt_infer.writers.sink import Record, beside, output_errors, sync
from scgpt_runtime.errors import OutputError

__all__ = ["FORMATS", "ProfileFile", "open_profiles"]

FORMATS = (".h5ad",)
"""Formats that profiles of cells are written in."""

_CHUNK_BYTES = 1 << 20
_ROW_BYTES = 64


@dataclass(frozen=True, slots=True)
class ProfileFile:
    """A file that is being written.

    Attributes
    ----------
    path, temporary
        Its final name, and the one that it has.
    file
        Open.
    genes
        (n_kept,) places of the written genes among those of a prediction.
    n_cells
        Control cells of each perturbation.
    """

    path: Path
    temporary: Path
    file: Any
    genes: NDArray[np.int64]
    n_cells: int

    def write(self, found: Predicted) -> None:
        """Write some cells of one perturbation; an answer that is not finite stays NaN."""
        start = found.combination * self.n_cells + int(found.cells[0])
        rows = slice(start, start + len(found.cells))
        with output_errors(self.path):
            self.file["X"][rows] = np.where(found.finite[:, None], found.values[:, self.genes], np.nan)
            if found.nonzero is not None:
                self.file["layers/nonzero"][rows] = np.where(
                    found.finite[:, None], found.nonzero[:, self.genes], np.nan
                )

    def commit(self, record: Record) -> None:
        """Add the facts of the run and give the file its name."""
        from anndata.io import write_elem

        with output_errors(self.path):
            write_elem(self.file["uns"], "scgpt_infer", dict(record))
            self.file.close()
            sync(self.temporary, self.path)


@contextmanager
def open_profiles(
    path: Path,
    perturbations: Sequence[str],
    cells: Sequence[str],
    genes: Sequence[str],
    places: NDArray[np.int64],
    *,
    nonzero: bool,
) -> Iterator[ProfileFile]:
    """Open a file for the profiles of all cells after all perturbations.

    Parameters
    ----------
    path
        A ``.h5ad`` file.
    perturbations, cells, genes
        Names.
    places
        (n_genes,) places of these genes among those of a prediction.
    nonzero
        Whether the model tells P(value > 0), which becomes a layer.

    Raises
    ------
    OutputError
        The disk has no room.
    """
    n_rows, layers = len(perturbations) * len(cells), 2 if nonzero else 1
    needed, free = n_rows * (len(genes) * 4 * layers + _ROW_BYTES), shutil.disk_usage(path.parent).free
    if needed > free:
        raise OutputError(
            f"{path} needs about {size(needed)} on the disk and {size(free)} are free. Ask for fewer genes "
            "(--only-genes) or cells (--cells), or write to another disk."
        )
    with beside(path) as temporary:
        with output_errors(path):
            _frames(perturbations, cells, genes).write_h5ad(temporary)
            file = h5py.File(temporary, "r+", locking=False)
        try:
            with output_errors(path):
                _matrix(file, "X", n_rows, len(genes))
                if nonzero:
                    _matrix(file, "layers/nonzero", n_rows, len(genes))
            yield ProfileFile(path, temporary, file, places, len(cells))
        finally:
            with suppress(OSError, RuntimeError):  # after a failed write, closing fails in the same way
                file.close()


def _frames(perturbations: Sequence[str], cells: Sequence[str], genes: Sequence[str]) -> Any:
    """The names, without a matrix."""
    import pandas as pd
    from anndata import AnnData

    codes = np.repeat(np.arange(len(perturbations)), len(cells))
    names = [f"{cell} ({perturbation})" for perturbation in perturbations for cell in cells]
    obs = pd.DataFrame(
        {
            "perturbation": pd.Categorical.from_codes(codes, list(perturbations)),
            "cell": np.tile(np.array(cells, object), len(perturbations)),
        },
        index=pd.Index(names, dtype=str),
    )
    return AnnData(obs=obs, var=pd.DataFrame(index=pd.Index(list(genes), dtype=str)))


def _matrix(file: Any, name: str, n_rows: int, n_genes: int) -> None:
    """Room for a dense matrix, NaN until it is written."""
    if name in file:
        del file[name]
    rows = max(1, min(n_rows, _CHUNK_BYTES // (4 * n_genes)))
    made = file.create_dataset(name, (n_rows, n_genes), np.float32, chunks=(rows, n_genes), fillvalue=np.nan)
    made.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
