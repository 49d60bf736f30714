"""Requests go through an engine in batches together, and each gets its own rows back."""

import threading
import time

import numpy as np
import pytest

from scgpt_infer.server.refusals import Broken, QueueFull
from scgpt_infer.server.seat.batch import units_of
from scgpt_infer.server.seat.rate import Rate
from scgpt_infer.server.seat.request import Request, Slice
from scgpt_infer.server.seat.work import FILES_TURN, Limits, Work
from scgpt_runtime.errors import BundleChangedError, DeviceLostError

from .toy_engine import ToyEngine, row_of, tokens

LIMITS = Limits(wait_seconds=0.001, queue_seconds=30.0, queue_tokens=10_000)
SHAPES = {"cell": (3,)}


class Waiting:
    """A request, and a way to wait for its end."""

    def __init__(self, block, client="a", until=None):
        self._over, self.error, self.ends = threading.Event(), None, 0
        self.request = Request(block, client, until, self._end)

    def _end(self, request, error):
        self.error, self.ends = error, self.ends + 1
        self._over.set()

    def rows(self):
        assert self._over.wait(20)
        if self.error is not None:
            raise self.error
        return self.request.result(SHAPES).outputs["cell"]


@pytest.fixture
def engine():
    return ToyEngine()


@pytest.fixture
def work(engine):
    lost = []
    with Work("toy", engine, 1, 0, LIMITS, lambda: None, lost.append) as found:
        yield found
        engine.open.set()


def test_rows_of_requests_that_shared_batches_are_their_own(work, engine):
    engine.open.clear()
    blocker = Waiting(tokens(3))
    work.ask(blocker.request)
    engine.begun.acquire()
    waiting = [Waiting(tokens(5, 0, 7, 3, first=10 * n), client=str(n % 2)) for n in range(4)]
    for one in waiting:
        work.ask(one.request)
    engine.open.set()
    for n, one in enumerate(waiting):
        rows = one.rows()
        for cell, length in enumerate((5, 0, 7, 3)):
            expected = row_of(10 * n + cell, length) if length else [np.nan] * 3
            np.testing.assert_array_equal(rows[cell], expected)
        assert one.request.result(SHAPES).lengths.tolist() == [5, 0, 7, 3]
    assert any(len({identity // 10 for identity in batch}) > 1 for batch in engine.seen)


def test_a_request_of_bad_cells_alone_ends_without_the_engine(work, engine):
    one = Waiting(tokens(0, 0))
    work.ask(one.request)
    assert np.isnan(one.rows()).all()
    assert engine.seen == []


def test_more_than_can_be_answered_soon_is_refused_with_a_time(work, engine):
    work.rate.add(1000, 1.0)  # 1,000 tokens a second
    engine.open.clear()
    held = Waiting(tokens(16))
    work.ask(held.request)
    engine.begun.acquire()
    work.ask(Waiting(tokens(*[10] * 900)).request)
    with pytest.raises(QueueFull, match="tokens") as refused:
        work.ask(Waiting(tokens(*[10] * 500)).request)  # over the most tokens, which is 10,000
    assert refused.value.retry_after == pytest.approx(4.0, rel=0.3)
    slow = Work("slow", engine, 1, 0, Limits(0.001, 5.0, 10_000), lambda: None, lambda error: None)
    slow.rate.add(1000, 1.0)
    slow.ask(Waiting(tokens(*[10] * 450)).request)
    with pytest.raises(QueueFull) as refused:
        slow.ask(Waiting(tokens(*[10] * 300)).request)
    assert refused.value.retry_after == pytest.approx(2.5, rel=0.1)


def test_one_client_with_much_has_no_other_refused(engine):
    work = Work("slow", engine, 1, 0, Limits(0.001, 5.0, 10**6), lambda: None, lambda error: None)
    work.rate.add(1000, 1.0)
    work.ask(Waiting(tokens(*[10] * 5000), client="much").request)  # 50 s
    work.ask(Waiting(tokens(*[10] * 100), client="little").request)
    with pytest.raises(QueueFull):
        work.ask(Waiting(tokens(10), client="much").request)
    with pytest.raises(QueueFull) as refused:
        work.ask(Waiting(tokens(*[10] * 400), client="third").request)
    assert refused.value.retry_after == pytest.approx(4 + 1 + 4 - 5, rel=0.1)


def test_the_rate_is_that_of_instances_that_are_at_work_and_not_of_batches_that_wait_for_one():
    rate = Rate(1)
    rate.begin(100.0)
    rate.begin(100.0)  # waits until the first ends
    rate.end(50, 101.0)
    rate.begin(101.0)
    rate.end(50, 102.0)
    rate.end(50, 103.0)
    assert rate.tokens_per_second == pytest.approx(50)
    two = Rate(2)
    for start in (10.0, 20.0):  # one at a time: the other one is there all the same
        two.begin(start)
        two.end(50, start + 1)
    assert two.tokens_per_second == pytest.approx(100)


def test_whoever_comes_first_is_taken_however_much_it_is(engine):
    work = Work("toy", engine, 1, 0, Limits(0.001, 0.001, 10), lambda: None, lambda error: None)
    work.rate.add(10, 1.0)
    work.ask(Waiting(tokens(*[10] * 100)).request)


def test_a_batch_that_fails_ends_its_own_requests_alone(work, engine):
    engine.broken = {50}
    bad, good = Waiting(tokens(16, first=50)), Waiting(tokens(16, first=60))
    work.ask(bad.request)
    work.ask(good.request)
    with pytest.raises(Broken, match="broken"):
        bad.rows()
    np.testing.assert_array_equal(good.rows()[0], row_of(60, 16))
    assert bad.ends == 1


def test_a_request_that_is_cancelled_gives_its_place_back(work, engine):
    engine.open.clear()
    held = Waiting(tokens(16))
    work.ask(held.request)
    engine.begun.acquire()
    gone, stays = Waiting(tokens(*[16] * 5, first=20)), Waiting(tokens(16, first=40))
    work.ask(gone.request)
    work.ask(stays.request)
    work.cancel(gone.request)
    engine.open.set()
    np.testing.assert_array_equal(stays.rows()[0], row_of(40, 16))
    assert not any(identity in range(20, 25) for batch in engine.seen for identity in batch)
    assert gone.ends == 0


def test_a_time_that_has_passed_costs_the_engine_nothing(work, engine):
    engine.open.clear()
    held = Waiting(tokens(16))
    work.ask(held.request)
    engine.begun.acquire()
    late, stays = Waiting(tokens(16, first=20), until=time.monotonic()), Waiting(tokens(16, first=40))
    work.ask(late.request)
    work.ask(stays.request)
    engine.open.set()
    stays.rows()
    assert late.error is not None
    assert late.error.status == 504
    assert not any(20 in batch for batch in engine.seen)


def test_files_wait_behind_requests_and_still_get_their_turn(work, engine):
    engine.open.clear()
    held = Waiting(tokens(16))
    work.ask(held.request)
    engine.begun.acquire()
    file = Waiting(tokens(16, 16, first=80))
    work.file(units_of([Slice(file.request, 0, 2)], engine.batches))
    requests = [Waiting(tokens(16, first=n), client=str(n)) for n in range(1, 30)]
    for one in requests:
        work.ask(one.request)
    engine.open.set()
    for one in (*requests, file):
        one.rows()
    order = [batch[0] for batch in engine.seen]
    assert FILES_TURN - 1 <= order.index(80) <= FILES_TURN + 1
    assert order.index(81) - order.index(80) == FILES_TURN + 1


def test_a_block_of_a_file_shares_no_batch(work, engine):
    engine.open.clear()
    held = Waiting(tokens(16))
    work.ask(held.request)
    engine.begun.acquire()
    file = Waiting(tokens(3, 3, first=80))
    work.file(units_of([Slice(file.request, 0, 2)], engine.batches))
    small = Waiting(tokens(3, first=40))
    work.ask(small.request)
    engine.open.set()
    file.rows(), small.rows()
    assert [80, 81] in engine.seen


@pytest.mark.parametrize("error", [DeviceLostError("gone"), BundleChangedError("written into")])
def test_a_device_or_model_that_is_lost_is_told_and_nothing_is_answered(engine, error):
    lost, heard = [], threading.Event()

    def fails():
        raise error

    def hear(found):
        lost.append(found)
        heard.set()

    if isinstance(error, DeviceLostError):
        engine.infer = lambda batch: fails()
    check = fails if isinstance(error, BundleChangedError) else lambda: None
    with Work("toy", engine, 1, 0, LIMITS, check, hear) as work:
        one = Waiting(tokens(4))
        work.ask(one.request)
        assert heard.wait(20)
    assert (lost, one.ends) == ([error], 0)


def test_idle_says_whether_all_is_done(work, engine):
    assert work.idle
    engine.open.clear()
    one = Waiting(tokens(4))
    work.ask(one.request)
    assert not work.idle
    engine.open.set()
    one.rows()
    until = time.monotonic() + 20
    while not work.idle:
        assert time.monotonic() < until


def test_idle_only_when_what_was_answered_is_told(work):
    gate, telling = threading.Event(), threading.Event()

    def end(request, error):
        telling.set()
        assert gate.wait(20)

    work.ask(Request(tokens(4), "a", None, end))
    assert telling.wait(20)
    assert not work.idle
    gate.set()
    until = time.monotonic() + 20
    while not work.idle:
        assert time.monotonic() < until


@pytest.mark.parametrize("place", ["packing", "putting", "ending"])
def test_a_thread_that_cannot_go_on_is_told_so_that_nobody_waits_for_it(engine, place):
    lost, heard = [], threading.Event()
    error = RuntimeError("unexpected")

    def fails(*told):
        raise error

    def hear(found):
        lost.append(found)
        heard.set()

    request = Request(tokens(4), "a", None, fails if place == "ending" else lambda *told: None)
    if place == "packing":
        engine.batches = fails
    elif place == "putting":
        request.tick = fails
    with Work("toy", engine, 1, 0, LIMITS, lambda: None, hear) as work:
        work.ask(request)
        assert heard.wait(20)
    assert lost == [error]
