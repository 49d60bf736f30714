"""``.census``: the folder in which embeddings are contributed to the CELLxGENE Census.

``embeddings.npy`` and ``joinids.npy`` (int64) have a row for each cell with a vector: a cell without one is not
embedded, and left out. ``meta.yml`` tells what the contribution is, as far as a run can know it, and
``scgpt_infer.json`` the run. Rows are appended as they come; their number is filled in at the end.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.writers.census_meta import meta
from scgpt_infer.writers.folder import Stage, staged
from scgpt_infer.writers.sink import Part, Record, Sink, Target, output_errors, record_json, write_all
from scgpt_runtime.errors import OutputError

__all__ = ["bytes_needed", "check", "is_ours", "open_census"]

_EMBEDDINGS, _JOINIDS, _META, _RECORD = "embeddings.npy", "joinids.npy", "meta.yml", "scgpt_infer.json"
_META_SHA256 = "meta_sha256"
"""Of ``meta.yml`` as it was written: who fills it in does not lose that to another run."""

_HEAD_BYTES = 128
"""Of an array, whatever its number of rows: numpy leaves room for one that grows."""


def bytes_needed(target: Target) -> int:
    """Room for the two arrays and what is told of them."""
    return target.n_cells * (target.dim * target.itemsize + 8) + 65536


def is_ours(folder: Path) -> bool:
    """Whether a folder holds a contribution of ours and nothing else, and nobody has filled in its ``meta.yml``."""
    if {path.name for path in folder.iterdir()} != {_EMBEDDINGS, _JOINIDS, _META, _RECORD}:
        return False
    try:
        told = json.loads((folder / _RECORD).read_bytes())
        return isinstance(told, dict) and told.get(_META_SHA256) == _sha256((folder / _META).read_bytes())
    except (OSError, ValueError):
        return False


def check(target: Target) -> None:
    """Make sure that the result is one that can be contributed.

    Raises
    ------
    OutputError
        It has more than vectors of cells, or the cells have no joinids.
    """
    more = [*(column.name for column in target.columns), *(table.name for table in target.tables)]
    more += ["values of genes"] if target.features or target.row != "cell" else []
    if more:
        raise OutputError(
            f"{target.path} is to hold {', '.join(more)}, and .census holds embeddings of cells alone. Name a .h5ad, "
            ".parquet, .csv, .json or .jsonl file."
        )
    _joinids_of(target)(0, 1)


@contextmanager
def open_census(target: Target) -> Iterator[Sink]:
    """Open a sink for a contribution; errors as for `check`."""
    check(target)
    with (
        staged(target.path, is_ours) as stage,
        (stage.folder / _EMBEDDINGS).open("w+b", buffering=0) as embeddings,
        (stage.folder / _JOINIDS).open("w+b", buffering=0) as joinids,
    ):
        sink = CensusSink(target, _joinids_of(target), stage, embeddings, joinids)
        with output_errors(target.path):
            sink.write_heads()
        yield sink


@dataclass(slots=True)
class CensusSink:
    """Appends vectors and joinids of the cells that have a vector.

    Attributes
    ----------
    target
        What is written.
    joinids_of
        Joinids of the cells of rows start to stop.
    stage, embeddings, joinids
        The folder and its two arrays.
    n_embedded
        Cells that are written.
    last
        Joinid of the last one.
    is_ascending
        Whether each joinid was larger than the one before, so that none is there twice.
    """

    target: Target
    joinids_of: Callable[[int, int], NDArray[np.int64]]
    stage: Stage
    embeddings: FileIO
    joinids: FileIO
    n_embedded: int = 0
    last: int = -1
    is_ascending: bool = True

    def write(self, part: Part) -> None:
        """Take the next rows."""
        embedded = np.array([not reason for reason in part.reasons], bool)
        joinids = self.joinids_of(part.first_row, part.first_row + part.n_cells)[embedded]
        if not len(joinids):
            return
        if joinids.min() < 0:
            raise OutputError(f"{joinids.min()} is no joinid; expected whole numbers from 0. Check those of the cells.")
        self.is_ascending = self.is_ascending and bool(np.all(np.diff(joinids, prepend=self.last) > 0))
        self.last, self.n_embedded = int(joinids[-1]), self.n_embedded + len(joinids)
        with output_errors(self.target.path):
            write_all(self.embeddings, _little(self.target.stored(part.vectors[embedded])).data)
            write_all(self.joinids, _little(joinids).data)

    def commit(self, record: Record) -> None:
        """Fill in the number of rows, tell what they are, and give the folder its name."""
        with output_errors(self.target.path):
            self._check_once()
            self.write_heads()
            text = meta(record, self.n_embedded, self.target.dim).encode()
            (self.stage.folder / _META).write_bytes(text)
            (self.stage.folder / _RECORD).write_bytes(record_json({**record, _META_SHA256: _sha256(text)}))
            self.stage.publish()

    def write_heads(self) -> None:
        """Write at the beginning of the arrays what they are."""
        _write_head(self.embeddings, self.target.dtype, (self.n_embedded, self.target.dim))
        _write_head(self.joinids, "int64", (self.n_embedded,))

    def _check_once(self) -> None:
        if self.is_ascending:
            return
        joinids = np.sort(np.fromfile(self.stage.folder / _JOINIDS, "<i8", offset=_HEAD_BYTES))
        if twice := joinids[1:][joinids[1:] == joinids[:-1]].tolist():
            raise OutputError(
                f"{len(twice):,} joinids come again, such as {twice[0]}; a contribution has each cell once. Take the "
                "others out of the cells."
            )


def _joinids_of(target: Target) -> Callable[[int, int], NDArray[np.int64]]:
    if target.joinids is None:
        raise OutputError(
            f"{target.path} needs the joinid of each cell, and these cells have none. Read them from a SOMA experiment "
            "or from the Census (census:RELEASE), or keep their joinids in a column soma_joinid of obs."
        )
    return target.joinids


def _write_head(file: FileIO, dtype: str, shape: tuple[int, ...]) -> None:
    described = {"descr": np.dtype(dtype).newbyteorder("<").str, "fortran_order": False, "shape": shape}
    file.seek(0)
    np.lib.format.write_array_header_1_0(file, described)
    file.seek(0, 2)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _little(numbers: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(numbers, numbers.dtype.newbyteorder("<"))
