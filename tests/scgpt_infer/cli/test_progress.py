"""Progress: what a person, a log file and a pipe see."""

import io

import pytest

from scgpt_infer.cli.progress import Progress, clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def follow(stream: io.StringIO, steps: int, seconds_a_step: float) -> str:
    now = Clock()
    with Progress("embed", stream, now) as progress:
        for done in range(steps + 1):
            progress(done * 10, steps * 10)
            now.seconds += seconds_a_step
    return stream.getvalue()


def test_a_log_gets_whole_lines_at_most_every_few_seconds_and_always_the_last():
    lines = follow(io.StringIO(), steps=100, seconds_a_step=0.1).splitlines()
    assert len(lines) == 3  # at 0 s, 5 s and the end
    assert "\x1b" not in "".join(lines)
    assert "\r" not in "".join(lines)
    assert lines[-1].startswith("embed  1,000 of 1,000 cells  100.0 cells/s")


def test_a_terminal_redraws_one_line_and_ends_it():
    text = follow(Terminal(), steps=10, seconds_a_step=1)
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert text.count("\r") == 11


def test_rate_and_time_left_count_from_the_first_report():
    stream, now = Terminal(), Clock()
    with Progress("embed", stream, now) as progress:
        now.seconds = 60.0  # loading the model
        progress(0, 100)
        now.seconds = 70.0
        progress(20, 100)
    assert "2.0 cells/s" in stream.getvalue()
    assert "40 s left" in stream.getvalue()


def test_time_left_is_told_when_the_speed_is_known():
    stream, now = Terminal(), Clock()
    with Progress("embed", stream, now) as progress:
        progress(0, 100_000)
        for seconds, done in ((30.0, 3), (31.0, 299), (32.0, 300)):  # the first batch compiles
            assert "left" not in stream.getvalue()
            assert "cells/s" not in stream.getvalue()
            now.seconds = seconds
            progress(done, 100_000)
    assert "left" in stream.getvalue()
    quick = io.StringIO()
    with Progress("embed", quick, Clock()) as progress:
        progress(0, 1_000_000)
        progress(0, 1_000_000)
    assert "left" not in quick.getvalue()


def test_a_job_of_few_cells_tells_its_speed_too():
    text = follow(Terminal(), steps=10, seconds_a_step=1)
    assert "10.0 cells/s  8.0 s left" in text
    assert "9.0 s left" not in text  # one second
    assert "10.0 cells/s" in follow(io.StringIO(), steps=1, seconds_a_step=1).splitlines()[-1]


def test_an_error_leaves_the_cursor_on_a_fresh_line():
    stream = Terminal()
    progress = Progress("embed", stream, Clock())
    progress(1, 10)
    progress.__exit__(ValueError, ValueError("boom"), None)
    assert stream.getvalue().endswith("\n")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.41, "0.4 s"), (9.96, "10 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_clock_rounds_to_what_a_person_needs(seconds: float, words: str):
    assert clock(seconds) == words


def test_the_end_is_told_once():
    stream = io.StringIO()
    progress = Progress("embed", stream, Clock())
    for done in (0, 10, 10):
        progress(done, 10)
    assert stream.getvalue().count("10 of 10") == 1
