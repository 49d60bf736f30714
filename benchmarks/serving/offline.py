"""The engine by itself on the cells that a server is asked about: cells a second, and milliseconds of single cells.

``python -m benchmarks.serving.offline``: an `Order` as JSON on standard input, what was found as JSON back. A process
of its own, as a seat is; the model is warm before anything counts.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving.bodies import rows_of
from scgpt_infer import models
from scgpt_runtime.cells import CellBlock
from scgpt_runtime.engine import Engine
from scgpt_runtime.vocab import match

__all__ = ["Order"]

_WARM = 4


@dataclass(frozen=True, slots=True)
class Order:
    """What is measured.

    Attributes
    ----------
    bundle
        The model.
    cells, n_cells
        As in `benchmarks.serving.load.Order`.
    single
        Whether cells are answered one at a time; else all in one block, as a job does.
    """

    bundle: str
    cells: str
    n_cells: int
    single: bool


def main() -> None:
    """Do what standard input asks for."""
    order = Order(**json.load(sys.stdin))
    rows, genes = rows_of(Path(order.cells), order.n_cells)
    whole = CellBlock(rows.indptr.astype(np.int64), rows.indices.astype(np.int32), rows.data, 0)
    with Engine.open(models.resolve(order.bundle)) as engine:
        columns = match(genes, engine.vocabulary).columns
        for _ in engine.run([_part(whole, 0, _WARM)], columns):
            pass
        json.dump(_single(engine, whole, columns) if order.single else _all(engine, whole, columns), sys.stdout)


def _all(engine: Engine, whole: CellBlock, columns: Any) -> dict[str, Any]:
    started, used = time.perf_counter(), time.process_time()
    for _ in engine.run([whole], columns):
        pass
    seconds, used = time.perf_counter() - started, time.process_time() - used
    rate = whole.n_cells / seconds
    return {"cells_per_second": rate, "seconds": seconds, "cpu_seconds": used, "told": _told(engine)}


def _single(engine: Engine, whole: CellBlock, columns: Any) -> dict[str, Any]:
    times = []
    for row in range(whole.n_cells):
        block = _part(whole, row, row + 1)
        started = time.perf_counter()
        for _ in engine.run([block], columns):
            pass
        times.append(1000 * (time.perf_counter() - started))
    return {"p50_ms": float(np.median(times)), "times_ms": times, "told": _told(engine)}


def _part(whole: CellBlock, start: int, stop: int) -> CellBlock:
    begin, end = int(whole.indptr[start]), int(whole.indptr[stop])
    return CellBlock(whole.indptr[start : stop + 1] - begin, whole.indices[begin:end], whole.data[begin:end], 0)


def _told(engine: Engine) -> str:
    return f"{engine.choice.provider} {engine.choice.precision}, {engine.choice.instances} instances"


if __name__ == "__main__":
    main()
