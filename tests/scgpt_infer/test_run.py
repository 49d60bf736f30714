import signal
from types import SimpleNamespace

import numpy as np
import pytest

from scgpt_infer import interrupts
from scgpt_infer.run import run
from scgpt_infer.tasks.embed import Embedding, embedding
from scgpt_infer.writers.memory import MemorySink
from scgpt_runtime.cells import CellBlock, CellFault, Result
from scgpt_runtime.errors import CellsError, InternalError
from scgpt_runtime.ranges import RANGE_ROWS

COLUMNS = np.arange(3)
DIM = 4


class FakeSource(SimpleNamespace):
    """So many cells without a value."""

    def cell_names(self, start, stop):
        return [f"cell-{i}" for i in range(start, stop)]

    def blocks(self, spans):
        for span in spans:
            yield CellBlock(
                np.zeros(len(span) + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), span.start
            )


class FakeEngine:
    """Answers row r with (r + 1, 0, 0, 1); `faults` says which rows have none."""

    def __init__(self, faults=None, keep=lambda block: True):
        self.faults, self.keep = faults or {}, keep
        self.timings = {"read": 1.0, "infer": 2.0}
        self.ended = False

    def run(self, blocks, columns, tick):
        try:
            for block in filter(self.keep, blocks):
                if block.n_cells > 1:
                    tick(block.n_cells // 2)
                tick(block.n_cells - block.n_cells // 2)
                yield self.answer(block)
        finally:
            self.ended = True

    def answer(self, block):
        rows = np.arange(block.first_row, block.first_row + block.n_cells)
        cell = np.zeros((len(rows), DIM), np.float32)
        cell[:, 0], cell[:, 3] = rows + 1, 1
        faults = np.array([self.faults.get(row, 0) for row in rows.tolist()], np.uint8)
        cell[faults > 0] = np.nan
        self.timings["infer"] += 0.5
        return Result({"cell": cell}, faults, (rows + 2).astype(np.int32), block.first_row)


def go(engine, n_cells=2 * RANGE_ROWS + 7, **options):
    sink = MemorySink.of(options.get("limit") or n_cells, DIM)
    told = []
    tally = run(
        FakeSource(n_cells=n_cells),
        engine,
        COLUMNS,
        Embedding(),
        sink,
        lambda n_cells, n_bad: {"n_cells": n_cells, "n_bad": n_bad},
        progress=lambda done, total: told.append((done, total)),
        **options,
    )
    return tally, sink, told


def test_every_row_lands_in_its_place_as_a_unit_vector():
    tally, sink, told = go(FakeEngine())
    rows = np.arange(1, len(sink.vectors) + 1)
    np.testing.assert_allclose(sink.vectors[:, 0] / sink.vectors[:, 3], rows, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(sink.vectors, axis=1), 1, rtol=1e-6)
    assert sink.vectors.dtype == np.float32
    done = [0, 512, 1024, 1536, 2048, 2051, 2055]  # after each batch, and after each range
    assert told == [(cells, 2055) for cells in done]
    assert (tally.n_cells, tally.longest, tally.bad.count) == (2055, 2056, 0)


def test_bad_cells_are_nan_and_listed_with_row_name_and_reason():
    tally, sink, _ = go(FakeEngine({3: CellFault.NAN, 1500: CellFault.NEGATIVE}))
    assert np.flatnonzero(np.isnan(sink.vectors).all(axis=1)).tolist() == [3, 1500]
    assert [(cell.row, cell.name, cell.reason) for cell in tally.bad.first] == [
        (3, "cell-3", "a value is NaN"),
        (1500, "cell-1500", "a value is negative"),
    ]
    assert sink.record == {"n_cells": 2055, "n_bad": 2}


def test_a_limit_stops_after_so_many_cells():
    tally, sink, told = go(FakeEngine(), limit=1030)
    assert tally.n_cells == len(sink.vectors) == 1030
    assert told[-1] == (1030, 1030)


def test_seconds_are_those_of_this_run_by_stage():
    engine = FakeEngine()
    tally, _, _ = go(engine, n_cells=10)
    assert tally.seconds["read"] == 0
    assert tally.seconds["infer"] == 0.5
    assert 0 <= tally.seconds["write"] <= tally.wall_seconds
    assert tally.peak_bytes > 10_000_000


def test_when_no_cell_has_an_embedding_nothing_is_written_and_the_reasons_are_counted():
    engine = FakeEngine(dict.fromkeys(range(7), CellFault.NO_COUNTS) | {7: CellFault.NAN})
    with pytest.raises(CellsError, match=r"None of the 8 cells.*7 x all values are zero; 1 x a value is NaN"):
        go(engine, n_cells=8)


def test_rows_that_do_not_come_back_are_our_fault():
    with pytest.raises(InternalError, match="This is a bug"):
        go(FakeEngine(keep=lambda block: block.first_row != 1024))
    with pytest.raises(InternalError, match="Rows 1024 to 2047 have not come back"):
        go(FakeEngine(keep=lambda block: block.first_row == 0))


def test_an_interrupt_ends_the_engine_before_it_is_raised():
    engine = FakeEngine()

    def interrupt(done, total):
        if done:
            raise KeyboardInterrupt

    sink = MemorySink.of(10, DIM)
    with pytest.raises(KeyboardInterrupt):
        run(FakeSource(n_cells=10), engine, COLUMNS, Embedding(), sink, lambda *counts: {}, progress=interrupt)
    assert engine.ended
    assert sink.record == {}


def test_a_swallowed_interrupt_ends_the_run_before_anything_is_written(monkeypatch):
    monkeypatch.setattr(interrupts, "_asked", [signal.SIGINT])
    sink = MemorySink.of(10, DIM)
    with pytest.raises(KeyboardInterrupt):
        run(FakeSource(n_cells=10), FakeEngine(), COLUMNS, Embedding(), sink, lambda *counts: {})
    assert sink.record == {}


def test_a_vector_that_overflowed_is_a_bad_cell():
    raw = np.array([[1, 1], [np.inf, 1]], np.float32)
    part = embedding(Result({"cell": raw}, np.zeros(2, np.uint8), np.full(2, 5, np.int32), 0))
    assert part.reasons[0] == ""
    assert part.reasons[1]
    assert np.isnan(part.vectors[1]).all()
