import gc
import logging
import threading
import time
import traceback
import weakref

import pytest

from scgpt_runtime.errors import InternalError, ProviderError
from scgpt_runtime.turns import Turns, Worker


def test_many_together_or_one_alone():
    turns, inside, wrong = Turns(), [], []
    guard = threading.Lock()

    def work(alone: bool) -> None:
        for _ in range(30):
            with turns.alone() if alone else turns.together():
                with guard:
                    inside.append(alone)
                    if any(inside) and len(inside) > 1:
                        wrong.append(list(inside))
                time.sleep(0.0003)
                with guard:
                    inside.remove(alone)

    threads = [threading.Thread(target=work, args=(number < 2,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong
    assert not inside


def test_as_many_as_want_are_together():
    turns, met = Turns(), threading.Barrier(4, timeout=10)

    def work() -> None:
        with turns.together():
            met.wait()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not met.broken


def test_one_that_wants_it_alone_is_not_put_off_by_newcomers():
    turns, stop, got = Turns(), threading.Event(), threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            with turns.together():
                time.sleep(0.002)

    def alone() -> None:
        with turns.alone():
            got.set()

    threads = [threading.Thread(target=come_and_go) for _ in range(4)] + [threading.Thread(target=alone)]
    for thread in threads:
        thread.start()
    assert got.wait(10)
    stop.set()
    for thread in threads:
        thread.join(10)


def test_an_error_inside_lets_go():
    turns = Turns()
    for take in (turns.alone, turns.together):
        with pytest.raises(KeyError), take():
            raise KeyError
    with turns.alone():
        pass


def test_a_worker_does_calls_in_one_thread_and_gives_back_what_comes():
    worker = Worker("a worker")
    assert worker.do(lambda: threading.current_thread().name) == "a worker"
    assert worker.do(divmod, 7, 2) == (3, 1)
    with pytest.raises(KeyError):
        worker.do({}.__getitem__, "x")
    ended = []
    worker.end(lambda: ended.append(threading.current_thread().name), 5)
    worker.end(lambda: ended.append("twice"), 5)
    assert ended == ["a worker"]
    with pytest.raises(InternalError, match="closed"):
        worker.do(print)
    assert "a worker" not in {thread.name for thread in threading.enumerate()}


def test_a_worker_that_hangs_is_not_waited_for():
    worker, free = Worker("hangs"), threading.Event()
    waiting = threading.Thread(target=worker.do, args=(free.wait, 20), daemon=True)
    waiting.start()
    start = time.monotonic()
    worker.end(lambda: None, 0.1)
    assert time.monotonic() - start < 5
    free.set()
    waiting.join(10)


def test_a_last_call_that_fails_still_ends_the_thread():
    worker = Worker("fails")
    worker.end(lambda: 1 / 0, 5)
    assert "fails" not in {thread.name for thread in threading.enumerate()}


class Held:
    def fail(self) -> None:
        try:
            raise KeyError
        except KeyError as error:
            raise ValueError("no") from error


def test_an_error_that_is_kept_keeps_nothing_that_the_call_had(caplog):
    worker, held = Worker("fails"), Held()
    seen = weakref.ref(held)
    gc.disable()  # what only the collector finds would end in any thread, at any time
    try:
        with caplog.at_level(logging.DEBUG), pytest.raises(ValueError, match="no") as raised:
            worker.do(lambda: seen().fail())
        assert isinstance(raised.value.__cause__, KeyError)
        del held
        assert seen() is None
        assert "in fail" in caplog.text  # where it was is still told to whoever wants to know
    finally:
        gc.enable()
        worker.end(lambda: None, 5)


def test_an_error_and_the_call_that_it_ended_are_no_circle():
    class SeenError(Exception):
        pass

    def fail() -> None:
        raise SeenError

    def kept() -> weakref.ref:
        try:
            worker.do(fail)
        except SeenError as error:
            return weakref.ref(error)

    worker = Worker("fails")
    gc.disable()
    try:
        seen = kept()
        worker.do(int)  # the call before is over
        assert seen() is None
    finally:
        gc.enable()
        worker.end(lambda: None, 5)


@pytest.mark.parametrize(
    ("error", "noted"), [(KeyError("x"), True), (InternalError("x"), True), (ProviderError("x"), False)]
)
def test_what_may_be_a_bug_says_where_it_was(error, noted):
    def guilty():
        raise error

    worker = Worker("a worker")
    try:
        with pytest.raises(type(error)) as raised:
            worker.do(guilty)
    finally:
        worker.end(lambda: None, 5)
    told = "".join(traceback.format_exception(raised.value))
    assert ("in guilty" in told) == noted
    assert ("In thread 'a worker'" in told) == noted


def test_errors_in_a_circle_and_their_causes_lose_their_frames():
    def raised(error):
        try:
            raise error
        except ValueError:
            return error

    first, second, cause = (raised(ValueError(name)) for name in "abc")
    first.__context__, second.__context__, second.__cause__ = second, first, cause

    def fail():
        raise first

    def call():
        with pytest.raises(ValueError, match="a"):
            worker.do(fail)

    worker = Worker("fails")
    caller = threading.Thread(target=call, daemon=True)
    caller.start()
    caller.join(10)
    assert not caller.is_alive()
    worker.end(lambda: None, 5)
    assert [error.__traceback__ for error in (second, cause)] == [None, None]
