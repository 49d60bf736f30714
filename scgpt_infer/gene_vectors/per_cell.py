"""Each gene of each cell as a row of a ``.parquet`` file, written as cells come.

In: an open engine, open cells, wanted genes. Out: the file. Nothing holds more than a few cells.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.gene_vectors.means import Seen, Watch
from scgpt_infer.gene_vectors.stream import hidden_states
from scgpt_infer.interrupts import deferred, honour
from scgpt_infer.output import check_disk
from scgpt_infer.readers import CellSource
from scgpt_infer.writers import Part, Record, Sink, Target, writer_of
from scgpt_infer.writers.sink import Column
from scgpt_runtime.cells import CellFault, Result, TokenBlock
from scgpt_runtime.engine import Engine

__all__ = ["write_per_cell"]

_ROWS = 8192
"""Rows of a row group, at least."""


def write_per_cell(
    path: Path,
    engine: Engine,
    source: CellSource,
    columns: NDArray[np.int64],
    ids: NDArray[np.int64],
    n_cells: int,
    record: Callable[[int, int], Record],
    tick: Callable[[int], None] = lambda cells: None,
) -> tuple[Seen, int]:
    """Write columns ``cell``, ``gene``, ``embedding`` and ``error``; gives what came of the cells, and the rows.

    A bad cell has one row, with its reason and neither gene nor vector. A good cell without any of the genes has none.

    Parameters
    ----------
    path
        As `scgpt_infer.output.destination` gives it.
    engine
        From `open_states`.
    source, columns
        Open cells, and the token id of each of their columns.
    ids
        Genes that are written.
    n_cells
        The first so many cells are taken.
    record
        Makes the facts that go with the file from the numbers of cells and of bad cells.
    tick
        Told of each number of cells that is answered.

    Raises
    ------
    CellsError
        No cell has hidden states.
    OutputError
        The file cannot be written, or there is no room.
    """
    rows, watch = _Rows(engine, ids), Watch(source)
    words = tuple(engine.vocabulary.tokens[token] for token in ids.tolist())
    dim = engine.bundle.manifest.dim
    expected = _rows_expected(engine, source, columns, ids, n_cells)
    target = Target(path, expected, dim, "", rows.names_of, columns=(Column("gene", words),))
    check_disk(target)
    with writer_of(path).open(target) as sink:
        for result, tokens in hidden_states(engine, source, columns, limit=n_cells, tick=tick):
            watch.take(result)
            rows.take(result, tokens, source.cell_names(result.first_row, result.first_row + result.n_cells))
            if rows.waiting >= _ROWS:
                rows.write(sink)
        rows.write(sink)
        seen = watch.done()
        honour()
        with deferred():
            sink.commit(record(seen.n_cells, len(seen.bad)))
    return seen, rows.written


class _Rows:
    """Rows that wait until there are enough for a row group."""

    def __init__(self, engine: Engine, ids: NDArray[np.int64]) -> None:
        self._word_of = np.full(len(engine.vocabulary), -1, np.int32)
        self._word_of[ids] = np.arange(len(ids))
        self._names: list[str] = []
        self._reasons: list[str] = []
        self._genes: list[NDArray[np.int32]] = []
        self._vectors: list[NDArray[np.float32]] = []
        self.written = 0

    @property
    def waiting(self) -> int:
        """Rows that are not written yet."""
        return len(self._names)

    def names_of(self, start: int, stop: int) -> list[str]:
        """Cells of the rows that are being written."""
        return self._names

    def take(self, result: Result, tokens: TokenBlock, names: list[str]) -> None:
        """The rows of a block of cells."""
        bad = np.flatnonzero(result.faults != CellFault.NONE)
        cell_of = np.repeat(np.arange(tokens.n_cells), np.diff(tokens.offsets))
        wanted = np.flatnonzero((self._word_of[tokens.ids] >= 0) & (result.faults[cell_of] == CellFault.NONE))
        cells = np.concatenate([cell_of[wanted], bad])
        order = np.argsort(cells, kind="stable")
        hidden = result.outputs["hidden"]
        missing = np.full((len(bad), hidden.shape[1]), np.nan, np.float32)
        self._names += [names[cell] for cell in cells[order].tolist()]
        self._reasons += [CellFault(result.faults[cell]).reason for cell in cells[order].tolist()]
        genes = np.concatenate([self._word_of[tokens.ids[wanted]], np.full(len(bad), -1, np.int32)])
        self._genes.append(genes[order])
        self._vectors.append(np.concatenate([hidden[wanted], missing])[order])

    def write(self, sink: Sink) -> None:
        """Write what waits."""
        if not self._names:
            return
        genes, vectors = np.concatenate(self._genes), np.concatenate(self._vectors)
        sink.write(Part(self.written, vectors, tuple(self._reasons), {"gene": genes}))
        self.written += len(self._names)
        for kept in (self._names, self._reasons, self._genes, self._vectors):
            kept.clear()


def _rows_expected(
    engine: Engine, source: CellSource, columns: NDArray[np.int64], ids: NDArray[np.int64], n_cells: int
) -> int:
    """Rows that there will be, about, by a sample of the cells: the file's size is not known before."""
    if engine.settings.include_zeros:
        each = float(len(ids))
    else:
        sample = source.sample()
        known = sample.indices[(sample.indices >= 0) & (sample.indices < len(columns)) & (sample.data != 0)]
        each = float(np.count_nonzero(np.isin(columns[known], ids))) / max(sample.n_cells, 1)
    return int(n_cells * min(each, engine.settings.max_length - 1)) + 1
