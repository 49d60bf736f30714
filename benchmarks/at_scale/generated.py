"""Cells that are made when they are read: a `CellSource` of any number of rows that takes no room.

In: a number of cells, gene names and a seed. Out: blocks in which a row depends on the seed and its number alone. How
many genes a cell expresses, and the counts, are distributed as in pbmc3k; which genes they are is random.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.readers.source import Stored
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.errors import CellsError
from scgpt_runtime.jit import cached, inner

__all__ = ["COUNTS", "EXPRESSED", "Generated"]

EXPRESSED = (
    *((212, 0.0), (341, 0.01), (459, 0.05), (554, 0.1), (658, 0.2), (727, 0.3), (781, 0.4), (819, 0.5), (861, 0.6)),
    *((922, 0.7), (999, 0.8), (1178, 0.9), (1360, 0.95), (1558, 0.98), (1682, 0.99), (1852, 0.995), (2413, 1.0)),
)
"""A number of expressed genes, and the share of pbmc3k's cells that have no more; between two points it is linear.
Source: the 2,638 annotated cells of 10x Genomics' PBMC 3k (CC BY 4.0), 13,656 genes; mean 849, 9.1 % of the cells have
more than 1,199."""

COUNTS = (
    *((1, 0.69876), (2, 0.81801), (3, 0.86131), (4, 0.88565), (5, 0.90268), (6, 0.91562), (8, 0.93503)),
    *((10, 0.94880), (15, 0.96971), (20, 0.98057), (30, 0.99038), (50, 0.99675), (100, 0.99953)),
    *((200, 0.99998), (419, 1.0)),
)
"""A count, and the share of the values in the same cells that are no larger."""

_DRAWS = 1 << 16
_SIZES = 1 << 12
_LOW, _HIGH, _DRAW_MASK, _SIZE_MASK = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(_DRAWS - 1), np.uint64(_SIZES - 1)
_ONE = np.uint64(1)
_FACTOR_1, _FACTOR_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)


class Generated:
    """Cells made from a seed.

    Parameters
    ----------
    n_cells
        Rows.
    genes
        Names of the columns; at least as many as a cell may express.
    seed
        Other seeds give other cells.

    Raises
    ------
    CellsError
        If there are too few genes for the largest cell.
    """

    path: Path | None = None
    counts, values, why = "X", "integer", "made from a seed"
    cell_columns: tuple[str, ...] = ()

    def __init__(self, n_cells: int, genes: Sequence[str], seed: int = 0) -> None:
        most = EXPRESSED[-1][0]
        if len(genes) < most:
            raise CellsError(f"{len(genes)} genes; a generated cell expresses up to {most}. Name more genes.")
        self.n_cells, self.n_genes = n_cells, len(genes)
        self.gene_names: Mapping[str, Sequence[str]] = {"index": genes}
        self._seed = np.uint64(seed)
        self._sizes = _table(_SIZES, EXPRESSED)
        self._counts = _table(_DRAWS, ((0, 0.0), *COUNTS)).astype(np.float32)

    def gene_column(self, name: str) -> Sequence[str]:
        """Gene names: they stand in the index alone."""
        return self.gene_names[name]

    def cell_names(self, start: int, stop: int) -> list[str]:
        """Names of the cells of rows ``start`` to ``stop``."""
        return [f"cell{row}" for row in range(start, stop)]

    def cell_column(self, name: str) -> NDArray[np.str_]:
        """Nothing but names is known of the cells."""
        raise CellsError(f"Generated cells have no column {name!r}.")

    def stored(self, key: str) -> Stored | None:
        """Generated cells have no embedding."""
        return None

    def blocks(self, spans: Iterable[range]) -> Iterator[CellBlock]:
        """The cells of each span of rows."""
        for span in spans:
            yield self._block(span.start, span.stop)

    def sample(self, n: int = 1000) -> CellBlock:
        """The first ``n`` cells: all are alike."""
        return self._block(0, min(n, self.n_cells))

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _block(self, start: int, stop: int) -> CellBlock:
        indptr = np.zeros(stop - start + 1, np.int64)
        _sizes(start, self._seed, self._sizes, indptr)
        indices, data = np.empty(int(indptr[-1]), np.int32), np.empty(int(indptr[-1]), np.float32)
        _values(start, self._seed, self.n_genes, self._counts, indptr, indices, data)
        return CellBlock(indptr, indices, data, start)


def _table(draws: int, points: Sequence[tuple[int, float]]) -> NDArray[np.int64]:
    """(draws,) equally likely whole numbers of a distribution that is given by values and shares."""
    values, shares = np.array(points).T
    drawn: NDArray[np.float64] = np.ceil(np.interp((np.arange(draws) + 0.5) / draws, shares, values))
    return drawn.astype(np.int64)


@inner
def _mix(z: Any) -> Any:
    """Finaliser of splitmix64 (Steele, Lea and Flood 2014, with the constants of Stafford's variant 13)."""
    z = (z ^ (z >> _30)) * _FACTOR_1
    z = (z ^ (z >> _27)) * _FACTOR_2
    return z ^ (z >> _31)


@inner
def _stream(seed: Any, row: int) -> Any:
    return _mix(_mix(seed + _GAMMA) + (np.uint64(row) + _ONE) * _GAMMA)


@cached
def _sizes(first: int, seed: Any, table: Any, indptr: Any) -> None:
    """Ends of the rows, from the second entry on."""
    for i in range(len(indptr) - 1):
        indptr[i + 1] = indptr[i] + table[_stream(seed, first + i) & _SIZE_MASK]


@cached
def _values(first: int, seed: Any, n_genes: int, table: Any, indptr: Any, indices: Any, data: Any) -> None:
    """A gene of each stretch of the columns, as many stretches as a cell expresses genes: ascending, none twice."""
    for i in range(len(indptr) - 1):
        start, size = indptr[i], indptr[i + 1] - indptr[i]
        state, low = _stream(seed, first + i), 0
        for k in range(size):
            state += _GAMMA
            drawn, high = _mix(state), (k + 1) * n_genes // size
            place = ((drawn & _LOW) * np.uint64(high - low)) >> _HIGH
            indices[start + k] = low + np.int64(place)
            data[start + k] = table[(drawn >> _HIGH) & _DRAW_MASK]
            low = high
