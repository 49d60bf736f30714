"""A job ends before it holds more than it was granted, keeps what is done, and says what to grant."""

import re

import pytest

from scgpt_infer import interrupts
from scgpt_infer.interrupts import Stopped, asked_to_stop
from scgpt_infer.memory import watch
from scgpt_infer.memory.watch import Watch, line_of, memory_for
from scgpt_infer.sizes import bytes_of
from scgpt_runtime.errors import OptionError

GRANTED = 1_000_000_000


class Held:
    """Tells one number after the other, the last one again and again."""

    def __init__(self, *told: int) -> None:
        self.told = list(told)

    def __call__(self) -> int:
        return self.told.pop(0) if len(self.told) > 1 else self.told[0]


@pytest.fixture(autouse=True)
def nothing_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watch, "trim", lambda: None)
    yield
    interrupts.take_back()


def test_the_line_leaves_something_free_and_the_least_to_grant_is_above_it():
    for n_bytes in (1, 10_000_000, 123_456_789, 2_000_000_000, 10**12):
        assert line_of(memory_for(n_bytes)) >= n_bytes
        assert memory_for(n_bytes) % 10_000_000 == 0
        assert memory_for(n_bytes) < 1.04 * n_bytes + 30_000_000


def test_below_the_line_nothing_happens():
    minding = Watch(GRANTED, Held(line_of(GRANTED)))
    minding.look()
    assert asked_to_stop() is None
    assert minding.peak == line_of(GRANTED)
    minding.honour()


def test_what_can_be_freed_is_freed_first(monkeypatch: pytest.MonkeyPatch):
    trims: list[int] = []
    monkeypatch.setattr(watch, "trim", lambda: trims.append(1))
    minding = Watch(GRANTED, Held(GRANTED, 500_000_000))
    minding.look()
    assert trims == [1]
    assert asked_to_stop() is None


def test_near_the_limit_the_job_is_asked_to_stop_and_above_it_it_ends():
    minding = Watch(GRANTED, Held(GRANTED - 1000))
    minding.look()
    assert asked_to_stop() is not None
    minding.honour()  # what is in flight may be finished
    above = Watch(GRANTED, Held(GRANTED + 1000))
    above.look()
    seen: list[int] = []
    with pytest.raises(OptionError, match="What was done is kept"):
        above.telling(lambda done, total: seen.append(done))(3, 10)
    assert seen == [3]


def stopped(minding: Watch) -> None:
    """A job that keeps what is in flight, and stops as it is asked."""
    minding.look()
    error = Stopped(15)
    error.add_note("Parts of 5 cells are kept.")
    raise error


def test_a_stop_for_memory_says_what_to_grant_and_leaves_no_trace():
    with pytest.raises(OptionError) as told, Watch(GRANTED, Held(GRANTED - 1000)) as minding:
        stopped(minding)
    to_grant = re.search(r"--memory (\S+)\.", str(told.value))
    assert to_grant is not None
    assert bytes_of(to_grant[1]) > GRANTED
    assert told.value.exit_code == 2
    assert told.value.__notes__ == ["Parts of 5 cells are kept."]
    assert asked_to_stop() is None


def test_a_stop_that_was_asked_for_otherwise_stays_one():
    with pytest.raises(Stopped), Watch(GRANTED, Held(1000)):
        raise Stopped(15)


def test_the_thread_looks_by_itself(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watch, "_LOOK_S", 0.001)
    with Watch(GRANTED, Held(1000)) as minding:
        while minding.peak == 0:
            pass
    assert minding.peak == 1000


def test_nothing_is_minded_without_a_limit():
    with Watch(None) as minding:
        minding.look()
        minding.honour()
    assert minding.peak == 0
