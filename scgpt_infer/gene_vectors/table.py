"""Vectors of genes, in memory and as a file: `GeneVectors`.

In: names, vectors, and what is told beside them. Out: rows for any writer, or a JSON document. It knows no
model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.gene_vectors.document import json_text
from scgpt_infer.interrupts import deferred, honour
from scgpt_infer.output import check_disk
from scgpt_infer.writers import Part, Record, Target, writer_of
from scgpt_infer.writers.sink import Column, beside, output_errors, sync
from scgpt_runtime.errors import OutputError

__all__ = ["FORMATS", "GeneVectors", "check_format"]

FORMATS = (".h5ad", ".npy", ".parquet", ".csv", ".json")
"""Formats that vectors of genes are written in."""

_ROWS = 1024


@dataclass(frozen=True, slots=True)
class GeneVectors:
    """A vector for each gene, or for each gene of each group of cells.

    Attributes
    ----------
    genes
        (n_rows,) names in the vocabulary.
    vectors
        (n_rows, dim) float32, not normalised.
    cells
        (n_rows,) int64 cells that each vector is the mean of; None where no cell has a part in it.
    by
        Name of the column that groups come from; empty: there are none.
    groups
        (n_rows,) group of each row; empty where there are none.
    record
        Facts of the run.
    """

    genes: tuple[str, ...]
    vectors: NDArray[np.float32]
    record: Record
    cells: NDArray[np.int64] | None = None
    by: str = ""
    groups: tuple[str, ...] = ()

    def to_json(self) -> str:
        """One JSON document of `scgpt_infer.schema`."""
        return json_text(self.genes, self.vectors, self.record, self.cells, self.by, self.groups)

    def write(self, path: Path, key: str) -> None:
        """Write a file.

        Parameters
        ----------
        path
            As `scgpt_infer.output.destination` gives it.
        key
            Name under ``obsm``, for ``.h5ad``.
        """
        if _suffix(path) == ".json":
            self._write_json(path)
        else:
            self._write_rows(path, key)

    def _write_json(self, path: Path) -> None:
        text = self.to_json()
        honour()
        with deferred(), beside(path) as temporary, output_errors(path):
            temporary.write_text(text, encoding="utf-8")
            sync(temporary, path)

    def _write_rows(self, path: Path, key: str) -> None:
        columns = self._columns(path)
        target = Target(
            path,
            len(self.genes),
            self.vectors.shape[1],
            key,
            self._names(path),
            columns=tuple(column for column, _ in columns),
            prefix="",
            row="gene",
        )
        check_disk(target)
        with writer_of(path).open(target) as sink:
            for start in range(0, len(self.genes), _ROWS):
                rows = slice(start, start + _ROWS)
                vectors = self.vectors[rows]
                told = {column.name: values[rows] for column, values in columns}
                sink.write(Part(start, vectors, ("",) * len(vectors), told))
            honour()
            with deferred():
                sink.commit(self.record)

    def _columns(self, path: Path) -> list[tuple[Column, NDArray[np.int32] | NDArray[np.float32]]]:
        """What goes beside the vectors; ``.npy`` holds nothing else, so there the number of cells is left out."""
        columns: list[tuple[Column, NDArray[np.int32] | NDArray[np.float32]]] = []
        if self.groups and _suffix(path) == ".h5ad":  # names of rows are unique there, so they tell both
            columns.append(_words("gene", self.genes))
        if self.groups:
            columns.append(_words(self.by, self.groups))
        if self.cells is not None and _suffix(path) != ".npy":
            columns.append((Column("cells"), self.cells.astype(np.float32)))
        return columns

    def _names(self, path: Path) -> Callable[[int, int], list[str]]:
        def names(start: int, stop: int) -> list[str]:
            if not self.groups or _suffix(path) != ".h5ad":
                return list(self.genes[start:stop])
            pairs = zip(self.genes[start:stop], self.groups[start:stop], strict=True)
            return [f"{gene} ({group})" for gene, group in pairs]

        return names


def check_format(path: Path, *, per_cell: bool, grouped: bool) -> None:
    """Make sure that a format can hold what is asked for.

    Raises
    ------
    OutputError
        When it cannot.
    """
    suffix = _suffix(path)
    if per_cell and suffix != ".parquet":
        raise OutputError(
            f"{path.name} cannot be written row by row: vectors of each cell's genes go to .parquet. Name such a file."
        )
    if suffix not in FORMATS:
        raise OutputError(f"Vectors of genes go to {', '.join(FORMATS)}, and the output is {path.name}.")
    if grouped and suffix == ".npy":
        raise OutputError(f"{path.name} has no place for groups. Name a .h5ad, .parquet or .csv file.")


def _suffix(path: Path) -> str:
    return path.suffix.lower()


def _words(name: str, values: tuple[str, ...]) -> tuple[Column, NDArray[np.int32]]:
    words, codes = np.unique(np.array(values, np.str_), return_inverse=True)
    return Column(name, tuple(words.tolist())), codes.astype(np.int32)
