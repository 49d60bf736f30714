import os
import signal
import threading
import time

import numpy as np
import pytest

import toy_bundle as toy
from scgpt_runtime.batching import BatchPlan, batches
from scgpt_runtime.cells import CellFault
from scgpt_runtime.pipeline import Ahead, Steps, Timings, run


def steps(**changes) -> Steps:
    """A model in one line: each cell's answer is the sum of its ids."""
    told = {
        "tokenise": lambda block: toy.tokens_of(block),
        "pack": lambda tokens: batches(tokens, toy.SETTINGS, BatchPlan("padded", 50)),
        "infer": lambda batch: {"sum": np.stack([batch.ids.sum(axis=1), batch.lengths], axis=1).astype(np.float32)},
        "outputs": {"sum": (2,)},
    }
    return Steps(**(told | changes))


BLOCKS = [[4, 9, 0, 2], [7, 7, 7], [], [0], [3]]


def working() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "scgpt-infer ahead"]


def test_results_come_in_block_order_with_rows_in_row_order():
    results = list(run(BLOCKS, steps(), Timings()))
    assert [result.lengths.tolist() for result in results] == BLOCKS
    for block, result in zip(BLOCKS, results, strict=True):
        np.testing.assert_array_equal(result.outputs["sum"][:, 1], [n or np.nan for n in block])
        assert result.outputs["sum"].dtype == np.float32
    assert not working()


def test_a_bad_cell_is_nan_and_keeps_its_fault():
    (result, *_) = run(BLOCKS, steps(), Timings())
    assert result.faults.tolist() == [0, 0, CellFault.NO_COUNTS, 0]
    assert np.isnan(result.outputs["sum"][2]).all()


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_an_answer_that_is_not_finite_makes_a_bad_cell_not_a_vector(bad):
    def infer(batch):
        rows = np.ones((len(batch.cells), 2), np.float32)
        rows[batch.cells == 1, 0] = bad
        return {"sum": rows}

    (result,) = run([[4, 9, 2]], steps(infer=infer), Timings())
    assert result.faults.tolist() == [0, CellFault.NOT_FINITE, 0]
    assert result.lengths.tolist() == [4, 0, 2]
    assert np.isnan(result.outputs["sum"][1]).all()
    assert CellFault.NOT_FINITE.reason


class SomeError(Exception):
    pass


def _fail(*_):
    raise SomeError("on purpose")


def _blocks_then_fail():
    yield [3]
    yield [4]
    _fail()


@pytest.mark.parametrize("stage", ["read", "tokenise", "pack", "infer"])
def test_an_error_of_any_stage_surfaces_once_and_the_thread_ends(stage):
    blocks = _blocks_then_fail() if stage == "read" else BLOCKS
    results = run(blocks, steps(**({} if stage == "read" else {stage: _fail})), Timings())
    with pytest.raises(SomeError, match="on purpose"):
        list(results)
    assert list(results) == []
    assert not working()


def test_results_before_an_error_are_still_given():
    results = run(_blocks_then_fail(), steps(), Timings())
    assert next(results).n_cells == 1
    assert next(results).n_cells == 1
    with pytest.raises(SomeError):
        next(results)


def test_an_interrupt_inside_the_thread_reaches_the_caller():
    def blocks():
        yield [3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run(blocks(), steps(), Timings()))


def _endless():
    while True:
        yield [2, 3]


def test_closing_the_results_ends_the_thread_and_the_source():
    closed = threading.Event()

    def blocks():
        try:
            yield from _endless()
        finally:
            closed.set()

    results = run(blocks(), steps(), Timings())
    next(results)
    results.close()
    assert not working()
    assert closed.wait(1)


def test_no_more_than_a_few_blocks_are_read_ahead():
    read = []

    def blocks():
        for number in range(100):
            read.append(number)
            yield [2]

    results = run(blocks(), steps(), Timings())
    next(results)
    time.sleep(0.3)
    assert len(read) <= 5
    results.close()


def test_nothing_is_read_before_the_first_result_is_asked_for():
    read = []
    results = run((read.append(1) or [2] for _ in range(3)), steps(), Timings())
    time.sleep(0.05)
    assert read == []
    results.close()


@pytest.mark.parametrize("where", ["infer", "queue"])
def test_ctrl_c_ends_the_work_at_once(where):
    def slow(*_):
        time.sleep(0.05)
        return {"sum": np.ones((2, 2), np.float32)}

    def slow_tokens(block):
        time.sleep(3 if where == "queue" else 0)
        return toy.tokens_of(block)

    start = time.monotonic()
    timer = threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        for _ in run(_endless(), steps(infer=slow, tokenise=slow_tokens), Timings()):
            pass
    timer.join()
    assert time.monotonic() - start < 4
    assert not working()


def test_a_source_that_hangs_does_not_hang_the_caller(monkeypatch):
    monkeypatch.setattr("scgpt_runtime.pipeline._JOIN_SECONDS", 0.1)
    free = threading.Event()

    def blocks():
        yield [2]
        free.wait(20)

    results = run(blocks(), steps(), Timings())
    next(results)
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 2
    free.set()


def test_an_error_while_the_source_is_closed_is_not_lost():
    class Source:
        def __iter__(self):
            return self

        def __next__(self):
            raise StopIteration

        def close(self):
            _fail()

    with Ahead(Source(), 1) as ahead, pytest.raises(SomeError):
        list(ahead)


def test_every_stage_is_timed():
    def slow(seconds, value):
        def step(block):
            time.sleep(seconds)
            return value(block)

        return step

    def blocks():
        for block in BLOCKS:
            time.sleep(0.02)
            yield block

    timings = Timings()
    told = steps(tokenise=slow(0.03, toy.tokens_of), infer=slow(0.01, steps().infer))
    list(run(blocks(), told, timings))
    assert timings.seconds["read"] >= 0.1
    assert timings.seconds["tokenise"] >= 0.15
    assert timings.seconds["infer"] >= 0.03
    assert timings.seconds["queue"] >= 0.1  # the device waited for tokens


def test_progress_is_told_by_batches_in_the_callers_thread():
    told = []
    list(run(BLOCKS, steps(tick=lambda cells: told.append((cells, threading.current_thread()))), Timings()))
    assert sum(cells for cells, _ in told) == 9
    assert {thread for _, thread in told} == {threading.main_thread()}
