"""Ranges are done once each, whatever becomes of the workers. The workers are played by a script."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from scgpt_infer.ledger.marks import Mark
from scgpt_infer.scale import crew as crew_module
from scgpt_infer.scale.crew import AHEAD, Crew
from scgpt_infer.scale.errand import Errand
from scgpt_infer.scale.messages import Begin, Done, Ended, Failed, FromWorker, Lost, Ready, Stop, Ticked, ToWorker
from scgpt_infer.scale.seats import Seat
from scgpt_infer.spans import grid
from scgpt_runtime.errors import CellsError, OptionError, WorkerError
from scgpt_runtime.providers import ProviderChoice

SPANS = grid(40, 4)
BEGIN = Begin(Path("parts"), b"plan", "float32")
READY = Ready(
    where="process 1 on here",
    version="1",
    hardware="one kind",
    choice=ProviderChoice("cpu", "fp32", "fp32", "portable", 1, 1, "as asked"),
    settings=None,  # type: ignore[arg-type]  # only passed on
    vector_id="v",
    batch_tokens=512,
    n_cells=40,
    columns="c",
)


@dataclass
class Stage:
    """A transport whose workers do a range when they are asked for a word; `killer` says which work kills a worker."""

    killer: Callable[[int, range], bool] = lambda number, span: False
    greeting: Callable[[int], FromWorker] = lambda number: READY
    held: dict[int, deque[range]] = field(default_factory=dict)
    said: deque[tuple[int, FromWorker]] = field(default_factory=deque)
    done: list[tuple[int, range]] = field(default_factory=list)
    most: int = 0
    begun: set[int] = field(default_factory=set)
    closed: bool = False

    def start(self, number: int, errand: Errand, seat: Seat) -> None:
        self.held[number] = deque()
        self.said.append((number, self.greeting(number)))

    def give(self, number: int, word: ToWorker) -> None:
        if number not in self.held:
            return
        match word:
            case Begin():
                self.begun.add(number)
            case range():
                assert number in self.begun
                self.held[number].append(word)
                self.most = max(self.most, len(self.held[number]))
            case Stop() | None:
                self.held[number].clear()
                self.said.append((number, Ended({"infer": 1.0}, 10)))

    def next(self, timeout: float) -> tuple[int, FromWorker] | None:
        if self.said:
            return self.said.popleft()
        busy = [number for number, held in self.held.items() if held]
        if not busy:
            return None
        number = min(busy, key=lambda one: sum(worker == one for worker, _ in self.done))
        span = self.held[number].popleft()
        if self.killer(number, span):
            del self.held[number]
            return number, Lost("process 9 was ended by SIGKILL.")
        self.done.append((number, span))
        self.said.append((number, Done(Mark(span.start, len(span), 0, "", 0, 1, 512))))
        return number, Ticked(len(span))

    def close(self) -> None:
        self.closed = True


def errand() -> Errand:
    played = SimpleNamespace()
    played.settled = lambda choice: played
    return played  # type: ignore[return-value]


@pytest.fixture
def marks() -> list[Mark]:
    return []


def led(stage: Stage, marks: list[Mark], workers: int = 3) -> int:
    """Have all ranges done; the cells that were ticked in all."""
    ticks: list[int] = []
    with Crew(stage, errand(), [Seat()] * workers, print) as crew:
        crew.work(BEGIN, SPANS, marks.append, ticks.append)
    assert stage.closed
    return sum(ticks)


def starts(marks: list[Mark]) -> list[int]:
    return sorted(mark.first_row for mark in marks)


ALL = [span.start for span in SPANS]


@pytest.mark.parametrize("workers", [1, 2, 3, 30])
def test_each_range_is_done_once_by_all_workers(marks: list[Mark], workers: int) -> None:
    stage = Stage()
    assert led(stage, marks, workers) == 40
    assert starts(marks) == ALL
    assert stage.most <= AHEAD
    assert len({number for number, _ in stage.done}) >= min(workers, 3)


def test_ranges_of_a_lost_worker_are_done_again(marks: list[Mark]) -> None:
    stage = Stage(killer=lambda number, span: number == 1)
    assert led(stage, marks) == 40, "cells of a lost worker do not count twice"
    assert starts(marks) == ALL
    assert 3 in stage.held, "another worker was started"


def test_a_range_that_kills_three_workers_is_named(marks: list[Mark]) -> None:
    stage = Stage(killer=lambda number, span: span.start == 20)
    with pytest.raises(WorkerError, match=r"Rows 20 to 23 were at work 3 times.*SIGKILL"):
        led(stage, marks)
    assert 20 not in starts(marks)
    assert stage.closed


def test_others_are_not_blamed_for_a_range_that_kills(marks: list[Mark]) -> None:
    killed: list[range] = []

    def killer(number: int, span: range) -> bool:
        fatal = span.start == 8 and len(killed) < 2
        if fatal:
            killed.append(span)
        return fatal

    led(Stage(killer=killer), marks, workers=1)
    assert starts(marks) == ALL


def test_workers_that_never_come_up_end_the_job(marks: list[Mark]) -> None:
    stage = Stage(greeting=lambda number: Lost("process 9 ended with exit code 1."))
    with pytest.raises(WorkerError, match=r"No worker comes up.*exit code 1"):
        led(stage, marks)


def test_an_error_of_the_first_worker_is_the_jobs_own(marks: list[Mark]) -> None:
    stage = Stage(greeting=lambda number: Failed("CellsError", "cells.h5ad has no cells."))
    with pytest.raises(CellsError, match=r"^cells.h5ad has no cells"):
        led(stage, marks)


@pytest.mark.parametrize(
    "greeting",
    [Failed("CellsError", "cells.h5ad is not there."), replace(READY, vector_id="w"), replace(READY, n_cells=41)],
    ids=["cannot open", "another model", "other cells"],
)
def test_the_others_go_on_without_a_worker_that_cannot_take_part(
    marks: list[Mark], greeting: FromWorker, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(greeting=lambda number: greeting if number == 1 else READY)
    led(stage, marks)
    assert starts(marks) == ALL
    assert "cannot take part" in caplog.text
    assert all(number != 1 for number, _ in stage.done)


def test_workers_on_another_kind_of_processor_take_part_and_are_told(
    marks: list[Mark], caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(greeting=lambda number: replace(READY, hardware="another kind") if number else READY)
    led(stage, marks)
    assert starts(marks) == ALL
    assert caplog.text.count("another kind, the first one on one kind: last bits") == 1


def test_an_error_at_work_ends_the_job_and_says_where(marks: list[Mark]) -> None:
    stage = Stage()
    stage.said.extend([(0, READY), (0, Failed("OptionError", "no."))])
    with pytest.raises(OptionError, match="Worker process 1 on here: no"):
        led(stage, marks)


def test_a_range_that_comes_twice_is_marked_once(marks: list[Mark]) -> None:
    stage = Stage()
    again = Done(Mark(0, 4, 0, "", 0, 1, 512))
    stage.said.extend([(0, READY), (0, again), (0, again)])
    led(stage, marks)
    assert starts(marks) == ALL


def test_another_part_in_the_place_of_one_is_marked_too(marks: list[Mark]) -> None:
    """A worker that was thought lost has written last."""
    stage = Stage()
    first, last = (Done(Mark(0, 4, 0, sha, 0, 1, 512)) for sha in ("one", "two"))
    stage.said.extend([(0, READY), (0, first), (0, last), (0, last)])
    cells = led(stage, marks)
    assert [mark.sha256 for mark in marks if mark.first_row == 0][:2] == ["one", "two"]
    assert cells == 40


def test_asked_to_stop_it_hands_out_no_more(marks: list[Mark], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: Iterator[int | None] = iter([None] * 12)
    monkeypatch.setattr(crew_module, "asked_to_stop", lambda: next(asked, 15))
    stage = Stage()
    led(stage, marks)
    assert 0 < len(marks) < len(SPANS)


def test_nothing_missing_needs_no_more_than_one_worker(marks: list[Mark]) -> None:
    stage = Stage()
    with Crew(stage, errand(), [Seat()] * 3, print) as crew:
        assert crew.first() is READY
        crew.work(BEGIN, [], marks.append, lambda cells: None)
    assert list(stage.held) == [0]
    assert not marks
