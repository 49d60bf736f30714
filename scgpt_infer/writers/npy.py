"""``.npy``: the bare (n_cells, dim) array of float32 or float16, names in ``x.cells.txt`` (``x.genes.txt``), and the
run in ``x.npy.json``.

Rows are appended as they come: no memory map, since a full disk would kill the process instead of raising.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.writers.sink import (
    Part,
    Record,
    Sink,
    Target,
    beside,
    output_errors,
    record_json,
    sync_together,
    write_all,
)
from scgpt_runtime.errors import OutputError

__all__ = ["BESIDE", "bytes_needed", "check", "open_npy"]

BESIDE = (".cells.txt", ".genes.txt", ".npy.json")
"""Suffixes of the files that may lie beside the array."""

_NAME_BYTES = 32


def bytes_needed(target: Target) -> int:
    """Room for the array and the names."""
    return target.n_cells * (target.dim * target.itemsize + _NAME_BYTES) + 4096


def check(target: Target) -> None:
    """Refuse a result that has more than vectors.

    Raises
    ------
    OutputError
        It has.
    """
    more = [*(column.name for column in target.columns), *(["names of genes"] if target.features else [])]
    more += [table.name for table in target.tables]
    if more:
        raise OutputError(
            f"{target.path} is to hold {', '.join(more)}, and .npy holds vectors "
            "alone. Name a .h5ad, .parquet, .csv, .json or .jsonl file."
        )


@contextmanager
def open_npy(target: Target) -> Iterator[Sink]:
    """Open a sink for an ``.npy`` file and the two files beside it; errors as for `check`."""
    check(target)
    names, record = target.path.with_suffix(f".{target.row}s.txt"), target.path.with_suffix(BESIDE[-1])
    with (
        beside(target.path) as array_path,
        beside(names) as names_path,
        beside(record) as record_path,
        array_path.open("wb", buffering=0) as array_file,
        names_path.open("wb", buffering=0) as names_file,
    ):
        stored, shape = np.dtype(target.dtype).newbyteorder("<").str, (target.n_cells, target.dim)
        header = {"descr": stored, "fortran_order": False, "shape": shape}
        with output_errors(target.path):
            np.lib.format.write_array_header_1_0(array_file, header)
        yield NpySink(target, array_file, names_file, {names: names_path, record: record_path, target.path: array_path})


@dataclass(frozen=True, slots=True)
class NpySink:
    """Appends rows and names."""

    target: Target
    array: FileIO
    names: FileIO
    temporaries: dict[Path, Path]

    def write(self, part: Part) -> None:
        """Take the next rows."""
        names = self.target.names(part.first_row, part.first_row + part.n_cells)
        lines = "".join(f"{_one_line(name)}\n" for name in names)
        with output_errors(self.target.path):
            write_all(self.array, _little(self.target.stored(part.vectors)).data)
            write_all(self.names, lines.encode())

    def commit(self, record: Record) -> None:
        """Give all three files their names, the array last."""
        with output_errors(self.target.path):
            self.temporaries[self.target.path.with_suffix(BESIDE[-1])].write_bytes(record_json(record))
            sync_together(self.temporaries)


def _little(numbers: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(numbers, numbers.dtype.newbyteorder("<"))


def _one_line(name: str) -> str:
    return (
        name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r") if "\n" in name or "\r" in name else name
    )
