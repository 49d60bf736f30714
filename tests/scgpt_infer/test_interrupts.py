"""Signals while files appear, and signals that the interpreter swallows."""

import os
import signal
import threading
from contextlib import suppress

import numpy as np
import pytest

from scgpt_infer import interrupts
from scgpt_infer.interrupts import Stopped, Terminated, asked_to_stop, deferred, finishing, honour
from scgpt_infer.writers import Part, Target, writer_of

pytestmark = pytest.mark.usefixtures("caught")


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (signal.SIGINT, KeyboardInterrupt),
        (signal.SIGTERM, Terminated),
        (signal.SIGHUP, Terminated),
        (signal.SIGUSR1, Stopped),
    ],
)
def test_a_signal_inside_takes_effect_at_the_end(number, error):
    reached = []

    def body():
        with deferred():
            signal.raise_signal(number)
            reached.append(True)

    with pytest.raises(error):
        body()
    assert reached == [True]


@pytest.mark.parametrize("suffix", [".csv", ".npy"])
def test_an_output_of_several_files_appears_whole_though_a_signal_comes_between_them(tmp_path, suffix, monkeypatch):
    replace = os.replace

    def interrupted(temporary, final):
        replace(temporary, final)
        signal.raise_signal(signal.SIGINT)

    def commit(sink):
        with deferred():
            sink.commit({"a": 1})

    monkeypatch.setattr(os, "replace", interrupted)
    target = Target(tmp_path / f"x{suffix}", 1, 2, "X_scGPT", lambda start, stop: ["a"])
    for _ in ("new", "over an older one"):
        with writer_of(target.path).open(target) as sink:
            sink.write(Part(0, np.ones((1, 2), np.float32), ("",)))
            with pytest.raises(KeyboardInterrupt):
                commit(sink)
    beside = [suffix for suffix in writer_of(target.path).beside if suffix != ".genes.txt"]  # of rows of genes
    wanted = {target.path, *(target.path.with_suffix(suffix) for suffix in beside)}
    assert set(tmp_path.iterdir()) == wanted


def test_in_another_thread_nothing_is_deferred_and_nothing_fails():
    ended = []

    def body():
        with deferred():
            ended.append(True)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert ended == [True]


def test_a_signal_that_is_ignored_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with deferred():
        signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    interrupts.catch()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_what_was_swallowed_is_raised_when_it_is_asked_about():
    honour()
    with suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        honour()
    interrupts.catch()
    honour()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_the_first_request_to_stop_is_told_and_a_second_one_ends_at_once(number):
    with finishing():
        assert asked_to_stop() is None
        signal.raise_signal(number)
        assert asked_to_stop() == number
        honour()  # nothing was swallowed
        with pytest.raises(Terminated) as ended:
            signal.raise_signal(signal.SIGTERM)
        assert ended.value.exit_code == 143
    interrupts.catch()
    assert asked_to_stop() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_user_who_interrupts_does_not_wait_for_the_end_of_a_part(number):
    with finishing(), pytest.raises((KeyboardInterrupt, Terminated)):
        signal.raise_signal(number)
    assert asked_to_stop() is None


def test_after_the_part_that_was_to_be_finished_a_signal_ends_at_once_again():
    with finishing():
        pass
    with pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)


def test_two_signals_while_files_appear_count_as_two():
    def body():
        with finishing(), deferred():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Terminated):
        body()


def test_signals_that_are_not_caught_are_left_as_they_were():
    """A program that uses the library decides about its signals itself."""
    heard = []
    signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    with finishing():
        signal.raise_signal(signal.SIGUSR1)
    assert heard == [signal.SIGUSR1]
    assert asked_to_stop() is None
