"""What a seat does with messages: each gets one answer, and what nobody waits for is not done."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from scgpt_infer.server.seat.answering import Asker, Seat
from scgpt_infer.server.seat.calling import Calling
from scgpt_infer.server.seat.spec import Spec
from scgpt_infer.server.seat.work import Limits, Work
from scgpt_infer.server.wire import Message
from scgpt_runtime.cells import TokenBlock

from .toy_engine import ToyEngine, row_of

SPEC = Spec("toy", 1, "toy", "none")


def tokenise(block, columns):
    """A token a value."""
    faults = (np.diff(block.indptr) == 0).astype(np.uint8)
    ids = columns[block.indices].astype(np.uint16)
    return TokenBlock(ids, np.zeros(len(ids), np.uint8), block.indptr.astype(np.int64), faults, block.first_row)


class Doing:
    """A task that waits until it is let."""

    def __init__(self):
        self.open, self.begun, self.done = threading.Event(), threading.Semaphore(0), []

    def __call__(self, task, body):
        self.begun.release()
        assert self.open.wait(20)
        self.done.append(task)
        return body


class Told:
    """A link's other end."""

    def __init__(self):
        self.messages, self._more = [], threading.Semaphore(0)
        self.asker = Asker(self._tell)

    def _tell(self, message):
        self.messages.append(message)
        self._more.release()

    def next(self):
        assert self._more.acquire(timeout=20)
        return self.messages[-1]


@pytest.fixture
def doing():
    return Doing()


@pytest.fixture
def engine():
    engine = ToyEngine()
    engine.tokenise, engine.shapes = tokenise, {"cell": (3,)}
    engine.settings = SimpleNamespace(include_zeros=False)
    return engine


@pytest.fixture
def lost():
    return []


@pytest.fixture
def seat(engine, doing, lost):
    opened = SimpleNamespace(engine=engine, labels=None)
    limits = Limits(0.001, 30.0, 10_000)
    with Calling(doing, lost.append) as calling, Work("toy", engine, 1, 0, limits, lambda: None, lost.append) as work:
        yield Seat(SPEC, opened, work, calling)
        engine.open.set()
        doing.open.set()


@pytest.fixture
def told():
    return Told()


def call(number, task, client="a", within=None):
    return Message("call", {"id": number, "task": task, "body": b"{}", "client": client, "within": within})


def block(number, *lengths):
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    arrays = indptr, np.arange(indptr[-1], dtype=np.int32), np.ones(int(indptr[-1]), np.float32)
    return Message("block", {"id": number, "first_row": number}, arrays)


def test_a_call_that_is_cancelled_or_whose_client_has_left_is_not_done(seat, doing, told):
    other = Told()
    seat.hear(told.asker, call(1, "first"))
    assert doing.begun.acquire(timeout=20)
    seat.hear(told.asker, call(2, "cancelled"))
    seat.hear(other.asker, call(1, "left"))
    seat.hear(told.asker, call(3, "last"))
    seat.hear(told.asker, Message("cancel", {"id": 2}))
    seat.leave(other.asker)
    doing.open.set()
    while told.next().fields["id"] != 3:
        pass
    assert doing.done == ["first", "last"]
    assert (told.asker.calls, other.asker.calls, other.messages) == ({}, {}, [])


def test_a_call_that_is_refused_is_told_and_forgotten(seat, doing, told):
    seat.hear(told.asker, call(0, "first", client="b"))
    assert doing.begun.acquire(timeout=20)
    for number in range(1, 10):
        seat.hear(told.asker, call(number, "more"))
    refused = told.next()
    assert (refused.kind, refused.fields["id"], refused.fields["code"]) == ("refused", 9, "queue_full")
    assert refused.fields["retry_after"] >= 1
    assert 9 not in told.asker.calls


def test_a_request_of_no_cells_is_refused(seat, told, lost):
    nothing = np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32)
    seat.hear(told.asker, Message("ask", {"id": 1, "task": "embed", "client": "a"}, nothing))
    refused = told.next()
    assert (refused.kind, refused.fields["status"]) == ("refused", 422)
    assert (told.asker.requests, lost) == ({}, [])


@pytest.mark.parametrize("lengths", [(), (0, 0), (3, 0, 2)])
def test_a_block_of_any_cells_has_its_result(seat, told, lost, lengths):
    seat.hear(told.asker, Message("columns", {}, (np.full(5, 4, np.int64),)))
    seat.hear(told.asker, block(6, *lengths))
    while (result := told.next()).kind == "tick":
        pass
    assert (result.kind, result.fields["first_row"], lost) == ("result", 6, [])
    faults, found, rows = result.arrays
    assert (len(faults), found.tolist()) == (len(lengths), list(lengths))
    expected = [row_of(4, length) if length else [np.nan] * 3 for length in lengths]
    np.testing.assert_array_equal(rows, np.array(expected, np.float32).reshape(-1, 3))
    assert told.asker.requests == {}


def test_a_seat_that_is_to_end_answers_what_it_has_and_takes_no_more_blocks(seat, engine, told):
    seat.hear(told.asker, Message("columns", {}, (np.full(5, 4, np.int64),)))
    engine.open.clear()
    seat.hear(told.asker, block(6, 2))
    seat.end()
    seat.hear(told.asker, block(8, 2))
    refused = next(one for one in told.messages if one.kind == "refused")
    assert (refused.fields["id"], refused.fields["status"]) == (8, 503)
    engine.open.set()
    arrays = np.array([0, 2]), np.array([4, 4], np.int32), np.ones(2, np.float32)
    seat.hear(told.asker, Message("ask", {"id": 9, "task": "embed", "client": "a"}, arrays))
    ends: dict[int, str] = {}
    while ends.keys() != {6, 8, 9}:
        told.next()
        ends = {one.fields["id"]: one.kind for one in told.messages if one.kind != "tick"}
    assert ends == {6: "result", 8: "refused", 9: "answer"}


def test_a_block_that_cannot_be_packed_is_refused_and_forgotten(seat, engine, told):
    def fails(tokens):
        raise ValueError("too long")

    engine.batches = fails
    seat.hear(told.asker, Message("columns", {}, (np.full(5, 4, np.int64),)))
    seat.hear(told.asker, block(6, 2))
    assert (told.next().kind, told.asker.requests) == ("refused", {})


@pytest.mark.parametrize("kind", ["ask", "block"])
def test_an_answer_that_cannot_be_made_is_refused_and_the_seat_goes_on(seat, engine, told, lost, kind):
    engine.shapes = None  # so that a result cannot be made
    indptr, genes, values = np.array([0, 2]), np.array([4, 4], np.int32), np.ones(2, np.float32)
    seat.hear(told.asker, Message("columns", {}, (np.full(5, 4, np.int64),)))
    asked = Message("ask", {"id": 6, "task": "embed", "client": "a"}, (indptr, genes, values))
    seat.hear(told.asker, asked if kind == "ask" else block(6, 2))
    while (refused := told.next()).kind == "tick":
        pass
    assert (refused.kind, refused.fields["status"], told.asker.requests, lost) == ("refused", 500, {}, [])
