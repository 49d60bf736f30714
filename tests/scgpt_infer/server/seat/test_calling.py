"""Calls are done one after the other, by turns of their clients, and none waits without end."""

import threading
import time

import pytest

from scgpt_infer.interrupts import honour
from scgpt_infer.server.refusals import Expired, QueueFull
from scgpt_infer.server.seat.calling import Call, Calling
from scgpt_runtime.errors import BundleChangedError, DeviceLostError


class Heard:
    def __init__(self):
        self._over, self.answer, self.error, self.ends = threading.Event(), None, None, 0

    def __call__(self, answer, error):
        self.answer, self.error, self.ends = answer, error, self.ends + 1
        self._over.set()

    def wait(self):
        assert self._over.wait(20)
        return self


class Gate:
    """A task that waits until it is let, and remembers what was done."""

    def __init__(self):
        self.open, self.begun, self.done = threading.Event(), threading.Event(), []

    def __call__(self, task, body):
        self.begun.set()
        assert self.open.wait(20)
        self.done.append(task)
        return b""


def call(task="", body=b"", client="a", within=None, end=None):
    until = None if within is None else time.monotonic() + within
    return Call(task, body, client, until, end or Heard())


def nobody_is_lost(error):
    raise AssertionError(error)


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def held(gate):
    """Calls that wait behind one that is being done."""
    with Calling(gate, nobody_is_lost) as calling:
        calling.put(call("first", client="first"))
        assert gate.begun.wait(20)
        yield calling
        gate.open.set()


def test_a_call_ends_with_its_answer_or_its_error():
    def do(task, body):
        if task == "bad":
            raise ValueError("no")
        return body.upper()

    with Calling(do, nobody_is_lost) as calling:
        good, bad = Heard(), Heard()
        calling.put(call("good", b"abc", end=good))
        calling.put(call("bad", b"abc", end=bad))
        assert good.wait().answer == b"ABC"
        assert str(bad.wait().error) == "no"
        assert (good.ends, bad.ends) == (1, 1)


def test_late_ones_are_not_done(held, gate):
    late, last = Heard(), Heard()
    held.put(call("late", within=0.0, end=late))
    held.put(call("last", end=last))
    gate.open.set()
    last.wait()
    assert isinstance(late.error, Expired)
    assert gate.done == ["first", "last"]


def test_those_that_nobody_waits_for_are_not_done_and_not_told(held, gate):
    left, last = call("left"), Heard()
    held.put(left)
    held.put(call("last", end=last))
    held.cancel(left)
    gate.open.set()
    last.wait()
    assert gate.done == ["first", "last"]
    assert left.end.ends == 0


def test_clients_take_turns(held, gate):
    ends = [Heard() for _ in range(6)]
    for number, client in enumerate("aaaabb"):
        held.put(call(f"{client}{number}", client=client, end=ends[number]))
    gate.open.set()
    for end in ends:
        end.wait()
    assert gate.done == ["first", "a0", "b4", "a1", "b5", "a2", "a3"]


def test_too_many_are_refused_and_one_client_leaves_room_for_others(held):
    for _ in range(8):
        held.put(call(client="a"))
    with pytest.raises(QueueFull, match="8 of this client"):
        held.put(call(client="a"))
    for _ in range(8):
        held.put(call(client="b"))
    with pytest.raises(QueueFull, match=r"^16 calls wait already"):
        held.put(call(client="c"))
    assert not held.idle


def test_late_and_cancelled_ones_give_their_places_back(held):
    late, left = Heard(), call(client="a")
    held.put(left)
    for _ in range(7):
        held.put(call(client="a", within=0.0, end=late))
    held.put(call(client="a"))
    assert late.ends == 7
    for _ in range(6):
        held.put(call(client="a"))
    held.cancel(left)
    held.put(call(client="a"))
    with pytest.raises(QueueFull):
        held.put(call(client="a"))


def test_one_that_nobody_waits_for_any_more_ends_where_its_task_looks():
    begun, ended = threading.Event(), threading.Event()

    def do(task, body):
        try:
            while task == "long":
                begun.set()
                honour()
                time.sleep(0.001)
        finally:
            ended.set()
        honour()
        return b"answer"

    with Calling(do, nobody_is_lost) as calling:
        left, kept = call("long", end=Heard()), Heard()
        calling.put(left)
        assert begun.wait(20)
        calling.put(call("short", end=kept))
        assert not ended.is_set()
        calling.cancel(left)
        assert kept.wait().answer == b"answer"
        assert left.end.ends == 0


def test_who_is_refused_is_told_how_long_those_take_that_wait(monkeypatch):
    now, gate = [100.0], Gate()
    monkeypatch.setattr("scgpt_infer.server.seat.calling.time.monotonic", lambda: now[0])

    def do(task, body):
        if task == "slow":
            now[0] += 20.0
            return b""
        if task == "wrong":
            raise ValueError
        return gate(task, body)

    with Calling(do, nobody_is_lost) as calling:
        for task in ("slow", "wrong"):
            calling.put(call(task, end=(heard := Heard())))
            heard.wait()
        calling.put(call())
        assert gate.begun.wait(20)
        for _ in range(8):
            calling.put(call())
        with pytest.raises(QueueFull) as refused:
            calling.put(call())
        gate.open.set()
    assert refused.value.retry_after == 8 * 20.0


@pytest.mark.parametrize("error", [DeviceLostError("gone"), BundleChangedError("written into")])
def test_a_device_or_model_that_is_lost_is_told_and_nothing_is_answered(error):
    lost, heard, end = [], threading.Event(), Heard()

    def do(task, body):
        raise error

    def hear(found):
        lost.append(found)
        heard.set()

    with Calling(do, hear) as calling:
        calling.put(call(end=end))
        assert heard.wait(20)
    assert (lost, end.ends) == ([error], 0)


def test_a_thread_that_cannot_go_on_is_told_so_that_nobody_waits_for_it():
    lost, heard = [], threading.Event()

    def end(answer, error):
        raise RuntimeError("unexpected")

    def hear(error):
        lost.append(str(error))
        heard.set()

    with Calling(lambda task, body: b"", hear) as calling:
        calling.put(call(end=end))
        assert heard.wait(20)
    assert lost == ["unexpected"]
