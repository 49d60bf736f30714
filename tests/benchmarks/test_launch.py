"""Sides get one environment, and runs that are kept come back as they were."""

from pathlib import Path

from benchmarks.study.figures import Run
from benchmarks.study.kept import Kept
from benchmarks.study.launch import ALLOCATOR, Outcome, environment
from benchmarks.study.sides import SIDES


def test_all_sides_share_the_allocators_settings_but_the_one_that_says_so(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    shared, own = environment(), environment(own_allocator=True)
    assert {name: value for name, value in shared.items() if name.startswith("MALLOC_")} == ALLOCATOR
    assert not [name for name in own if name.startswith("MALLOC_")]
    assert [side.name for side in SIDES if side.own_allocator] == ["original-malloc"]


def test_a_run_that_is_kept_is_not_run_again(tmp_path):
    made = Outcome(Run(9.0, 0.1, ((1.0, 1), (2.5, 7)), 5), {"runs": "x"})
    first = Kept(tmp_path, resume=False)
    assert first.outcome(SIDES[0], Path("cells.h5ad"), 2, lambda: made) == made
    again = Kept(tmp_path, resume=True)
    assert again.outcome(SIDES[0], Path("cells.h5ad"), 2, lambda: Outcome(None, {}, "ran again")) == made
    assert again.beyond(SIDES[0], Path("cells.h5ad"), 1) == [2]
    assert again.beyond(SIDES[0], Path("cells.h5ad"), 3) == []


def test_a_run_that_failed_is_tried_again(tmp_path):
    kept = Kept(tmp_path, resume=True)
    made = Outcome(Run(9.0, 0.1, ((1.0, 1),), 5), {})
    assert kept.outcome(SIDES[1], Path("cells.h5ad"), 0, lambda: Outcome(None, {}, "no")).reason == "no"
    assert kept.outcome(SIDES[1], Path("cells.h5ad"), 0, lambda: made) == made
    assert Kept(tmp_path, resume=False).beyond(SIDES[1], Path("cells.h5ad"), 0) == []
