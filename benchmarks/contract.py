"""The contract "same cell, same vector", measured: every way of running the same cells, at every precision.

    python benchmarks/contract.py                       the demo model on the demo's real cells
    python benchmarks/contract.py BUNDLE CELLS.h5ad     any bundle, any cells

Prints one line a case and precision: the largest difference to a plain run, and the limit. Exits with 3
when one is outside. The tests hold the same cases to the same limits.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scgpt_infer.models import open_bundle
from scgpt_infer.readers import open_cells
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.choosing import Asked, candidates
from scgpt_runtime.engine import Engine, EngineOptions
from scgpt_runtime.errors import ProviderError
from scgpt_runtime.proof import one_minus_cosine
from scgpt_runtime.vocab import choose

Columns = NDArray[np.int64]
Vectors = NDArray[np.float32]

LIMITS = {"fp32": 1e-5, "fp16": 1e-4, "bf16": 1e-4, "int8": 5e-4}
"""Between batchings: largest difference of an entry of the unit vector in fp32, 1 - cosine otherwise."""

RANGE = 100
"""Rows a block, so that a few hundred cells make several."""


@dataclass(frozen=True, slots=True)
class Way:
    """One more way to run the same cells.

    Attributes
    ----------
    name
        In words.
    run
        (bundle, provider and precision, cells, columns) to (n_cells, dim) vectors, in the order of the cells.
    equal
        Bits must be equal; else differences stay within `LIMITS`.
    """

    name: str
    run: Callable[[Bundle, str, CellBlock, Columns], Vectors]
    equal: bool


@dataclass(frozen=True, slots=True)
class Figure:
    """What a way gave with a provider and precision, such as ``openvino bf16``, and what it may give at most."""

    way: str
    arithmetic: str
    worst: float
    limit: float


def measure(bundle: Bundle, cells: CellBlock, columns: Columns, arithmetic: str) -> list[Figure]:
    """Run the cells in every way and compare with the plain one."""
    precision = arithmetic.split()[1]
    plain = _run(bundle, arithmetic, _ranges(cells), columns)
    figures = []
    for way in WAYS:
        found = way.run(bundle, arithmetic, cells, columns)
        limit = 0.0 if way.equal else LIMITS[precision]
        figures.append(
            Figure(way.name, arithmetic, _difference(found, plain, exact=way.equal or precision == "fp32"), limit)
        )
    return figures


def _difference(found: Vectors, plain: Vectors, exact: bool) -> float:
    if not np.array_equal(np.isnan(found), np.isnan(plain)):
        return float("inf")
    good = ~np.isnan(plain).any(axis=1)
    if exact:
        return float(np.abs(found[good] - plain[good]).max())
    return float(one_minus_cosine(found[good], plain[good]).max())


def _run(
    bundle: Bundle,
    arithmetic: str,
    blocks: Iterable[CellBlock],
    columns: Columns,
    *,
    instances: int | None = None,
    threads: int | None = None,
    batch_tokens: int | None = None,
) -> Vectors:
    """Unit vectors of all cells of the blocks."""
    provider, precision = arithmetic.split()
    options = EngineOptions(provider, precision, threads=threads, instances=instances, batch_tokens=batch_tokens)
    with Engine.open(bundle, options) as engine:
        cells = np.concatenate([result.outputs["cell"] for result in engine.run(blocks, columns)])
    unit: Vectors = cells / np.linalg.norm(cells, axis=1, keepdims=True)
    return unit


def _take(cells: CellBlock, rows: NDArray[np.int64]) -> CellBlock:
    """Some of the cells, in the order asked for."""
    parts = [np.arange(cells.indptr[row], cells.indptr[row + 1]) for row in rows]
    order = np.concatenate(parts) if parts else np.empty(0, np.int64)
    indptr = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return CellBlock(indptr, cells.indices[order], cells.data[order], int(rows[0]) if len(rows) else 0)


def _ranges(cells: CellBlock, rows_a_range: int = RANGE) -> Iterator[CellBlock]:
    for start in range(0, cells.n_cells, rows_a_range):
        yield _take(cells, np.arange(start, min(start + rows_a_range, cells.n_cells)))


def _again(bundle: Bundle, arithmetic: str, cells: CellBlock, columns: Columns) -> Vectors:
    return _run(bundle, arithmetic, _ranges(cells), columns)


def _resumed(bundle: Bundle, arithmetic: str, cells: CellBlock, columns: Columns) -> Vectors:
    """A first process does the first range, another one the rest."""
    first, *rest = _ranges(cells)
    return np.concatenate([_run(bundle, arithmetic, [first], columns), _run(bundle, arithmetic, rest, columns)])


def _sharded(bundle: Bundle, arithmetic: str, cells: CellBlock, columns: Columns) -> Vectors:
    """Every range in an engine of its own, last one first."""
    ranges = list(_ranges(cells))
    done = [_run(bundle, arithmetic, [block], columns) for block in reversed(ranges)]
    return np.concatenate(done[::-1])


def _columns_shuffled(bundle: Bundle, arithmetic: str, cells: CellBlock, columns: Columns) -> Vectors:
    to = np.random.default_rng(1).permutation(len(columns)).astype(np.int32)
    shuffled = np.empty_like(columns)
    shuffled[to] = columns
    return _run(bundle, arithmetic, _ranges(replace(cells, indices=to[cells.indices])), shuffled)


def _stored_otherwise(bundle: Bundle, arithmetic: str, cells: CellBlock, columns: Columns) -> Vectors:
    """Every value in two halves under one column, with explicit zeros between, unsorted."""
    index = np.repeat(cells.indices, 3)
    data = np.repeat(cells.data / np.float32(2), 3)
    data[1::3] = 0.0
    for start, stop in _spans(cells):
        inside = slice(3 * start, 3 * stop)
        index[inside], data[inside] = index[inside][::-1].copy(), data[inside][::-1].copy()
    return _run(bundle, arithmetic, _ranges(CellBlock(cells.indptr * 3, index, data, 0)), columns)


def _per_10k(cells: CellBlock) -> NDArray[np.float64]:
    """Counts per 10,000 of each cell, in float64."""
    lengths = np.diff(cells.indptr)
    totals = np.repeat([cells.data[a:b].sum(dtype=np.float64) for a, b in _spans(cells)], lengths)
    scaled: NDArray[np.float64] = cells.data * 1e4 / np.maximum(totals, 1)
    return scaled


def _spans(cells: CellBlock) -> Iterator[tuple[int, int]]:
    return zip(cells.indptr.tolist(), cells.indptr[1:].tolist(), strict=False)


def _normalised(bundle: Bundle, arithmetic: str, cells: CellBlock, columns: Columns) -> Vectors:
    return _run(bundle, arithmetic, _ranges(replace(cells, data=_per_10k(cells).astype(np.float32))), columns)


def _log1p(bundle: Bundle, arithmetic: str, cells: CellBlock, columns: Columns) -> Vectors:
    data = np.log1p(_per_10k(cells)).astype(np.float32)
    return _run(bundle, arithmetic, _ranges(replace(cells, data=data)), columns)


def _alone(bundle: Bundle, arithmetic: str, cells: CellBlock, columns: Columns) -> Vectors:
    return _run(bundle, arithmetic, _ranges(cells, 1), columns)


def _other_ranges(bundle: Bundle, arithmetic: str, cells: CellBlock, columns: Columns) -> Vectors:
    return _run(bundle, arithmetic, _ranges(cells, 37), columns)


def _reversed(bundle: Bundle, arithmetic: str, cells: CellBlock, columns: Columns) -> Vectors:
    rows = np.arange(cells.n_cells)[::-1]
    return _run(bundle, arithmetic, _ranges(_take(cells, rows)), columns)[::-1]


def _large_batches(bundle: Bundle, arithmetic: str, cells: CellBlock, columns: Columns) -> Vectors:
    return _run(bundle, arithmetic, _ranges(cells), columns, batch_tokens=8192)


def _one_a_batch(bundle: Bundle, arithmetic: str, cells: CellBlock, columns: Columns) -> Vectors:
    return _run(bundle, arithmetic, _ranges(cells), columns, batch_tokens=1)


def _one_instance(bundle: Bundle, arithmetic: str, cells: CellBlock, columns: Columns) -> Vectors:
    return _run(bundle, arithmetic, _ranges(cells), columns, instances=1)


def _one_thread(bundle: Bundle, arithmetic: str, cells: CellBlock, columns: Columns) -> Vectors:
    return _run(bundle, arithmetic, _ranges(cells), columns, threads=1)


WAYS = (
    Way("run again", _again, equal=True),
    Way("resumed after the first range", _resumed, equal=True),
    Way("each range in a worker of its own", _sharded, equal=True),
    Way("gene columns in another order", _columns_shuffled, equal=True),
    Way("duplicates, explicit zeros, unsorted", _stored_otherwise, equal=True),
    Way("counts per 10,000 instead of counts", _normalised, equal=True),
    Way("log1p instead of counts", _log1p, equal=True),
    Way("each cell in a range of its own", _alone, equal=False),
    Way("ranges of another size", _other_ranges, equal=False),
    Way("cells in reverse order", _reversed, equal=False),
    Way("batches of 8,192 tokens", _large_batches, equal=False),
    Way("one cell a batch", _one_a_batch, equal=False),
    Way("one instance with all threads", _one_instance, equal=False),
    Way("one thread", _one_thread, equal=False),
)


def arithmetics(bundle: Bundle) -> tuple[str, ...]:
    """Every provider and precision that runs the bundle here."""
    found = []
    for precision in (*bundle.manifest.precisions, "bf16"):
        with suppress(ProviderError):
            choices = candidates(bundle.manifest, Asked(precision=precision))
            found += [f"{choice.provider} {choice.precision}" for choice in choices]
    return tuple(found)


def load(model: str, path: Path, n_cells: int | None = None) -> tuple[Bundle, CellBlock, Columns]:
    """A bundle, the first cells of a file as one block, and the file's columns in the bundle's vocabulary."""
    bundle = open_bundle(model, None)
    with open_cells(path) as source:
        columns = choose(source.gene_names, bundle.vocabulary()).columns
        n = source.n_cells if n_cells is None else min(n_cells, source.n_cells)
        (cells,) = source.blocks([range(n)])
    return bundle, cells, columns


def main(arguments: list[str]) -> int:
    """Print the table; 3 when a figure is outside its limit."""
    from scgpt_infer import demo

    model, path = arguments if arguments else ("demo", str(demo.CELLS))
    bundle, cells, columns = load(model, Path(path))
    outside = 0
    print(f"{cells.n_cells} cells of {path}, {RANGE} a range, on model {bundle.manifest.name}")
    print("| way | provider and precision | largest difference | limit |\n|---|---|---|---|")
    for arithmetic in arithmetics(bundle):
        for figure in measure(bundle, cells, columns, arithmetic):
            outside += figure.worst > figure.limit
            print(f"| {figure.way} | {figure.arithmetic} | {figure.worst:.1e} | {figure.limit:.0e} |")
    return 3 if outside else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
