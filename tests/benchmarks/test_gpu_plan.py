"""A visit to a GPU machine: what runs when time is short, and what is kept when a stage fails."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu import complete
from benchmarks.gpu_visit import plan, record
from benchmarks.gpu_visit.environment import ROOT, environment
from benchmarks.gpu_visit.part import Ask, Part
from benchmarks.gpu_visit.plan import STAGES, Stage, affordable, granted, named
from benchmarks.gpu_visit.visit import Visit


def names(stages) -> list[str]:
    return [stage.name for stage in stages]


def test_all_stages_run_when_there_is_time():
    assert affordable(STAGES, 10_000) == STAGES


def test_the_least_important_stages_are_dropped_first():
    kept = names(affordable(STAGES, plan.BUDGET))
    by_rank = names(sorted(STAGES, key=lambda stage: stage.rank))
    assert set(kept) == set(by_rank[: len(kept)])
    assert {"facts", "bundle", "parity", "peers", "cells"} <= set(kept)
    assert plan.cost(affordable(STAGES, plan.BUDGET)) <= plan.BUDGET


def test_a_rehearsal_has_time_for_all():
    assert affordable(STAGES, plan.REHEARSAL_BUDGET, rehearsal=True) == STAGES
    assert plan.REHEARSAL_BUDGET <= 180


def test_no_time_at_all_drops_everything():
    assert affordable(STAGES, 0) == ()


def test_what_runs_alongside_costs_only_what_it_outlasts():
    beside = Stage("b", "", 100, 200, 1, 0, alongside=True)
    first = Stage("f", "", 30, 60, 1, 0, needs_bundle=False)
    last = Stage("l", "", 10, 20, 1, 1)
    assert plan.cost([beside, first, last]) == 110


def test_a_stage_is_granted_what_later_ones_are_not_expected_to_need():
    first, second = Stage("a", "", 10, 100, 1, 0), Stage("b", "", 30, 60, 1, 1)
    assert granted(first, [second], 90) == 60
    assert granted(first, [second], 500) == 100
    assert granted(first, [second], 20) == 0


def test_stages_are_chosen_by_name_and_bring_what_they_need():
    assert names(named(["sweep"])) == ["facts", "bundle", "sweep"]
    assert names(named(["peaks"])) == ["facts", "peaks"]
    with pytest.raises(SystemExit, match="Unknown stages speed"):
        named(["speed"])


# Stages as processes -------------------------------------------------------------------------------------------------

QUICK = Stage("facts", "", 1, 30, 1, 0, needs_bundle=False)
PEAKS = Stage("peaks", "", 1, 30, 1, 1, needs_bundle=False)
BUNDLE = Stage("bundle", "", 1, 30, 1, 0, alongside=True)
PARITY = Stage("parity", "", 1, 30, 1, 2)

GOOD = "part.put('device', {'name': 'Made-up GPU 1'}); part.put('model', {'nlayers': 2, 'embsize': 64})"


def visit(tmp_path: Path, stages: list[Stage], code: dict[str, str], seconds: float = 60) -> dict:
    """Run stages whose processes run a line of code each."""

    def command(stage: Stage, ask: Path, part: Path) -> list[str]:
        lead = "import sys, time, pathlib; from benchmarks.gpu_visit.part import Part, Ask\n"
        lead += f"ask, part = Ask.load(pathlib.Path({str(ask)!r})), Part(pathlib.Path({str(part)!r}))\n"
        return [sys.executable, "-c", lead + code.get(stage.name, GOOD)]

    ask = Ask(tmp_path / "cache", tmp_path / "out", False, True, 0, 0.0)
    return Visit(stages, ask, seconds, command).run()


def test_a_stage_that_fails_keeps_its_rows_and_costs_the_others_nothing(tmp_path):
    failing = "part.add('products', {'n': 1}); raise ValueError('no such kernel')"
    found = visit(tmp_path, [QUICK, BUNDLE, PEAKS, PARITY], {"peaks": failing})
    stages = found["stages"]
    assert stages["peaks"]["status"] == "failed"
    assert stages["peaks"]["found"] == {"products": [{"n": 1}]}
    assert "no such kernel" in stages["peaks"]["why"]
    assert [stages[name]["status"] for name in ("facts", "bundle", "parity")] == ["done"] * 3
    assert json.loads((tmp_path / "out" / "gpu.made-up-gpu-1.json").read_text()) == found
    assert "no such kernel" in (tmp_path / "out" / "gpu.made-up-gpu-1.log").read_text()


def test_a_stage_that_hangs_is_stopped_with_what_it_started(tmp_path):
    started = tmp_path / "child"
    hanging = (
        f"import subprocess; child = subprocess.Popen(['sleep', '600'])\n"
        f"pathlib.Path({str(started)!r}).write_text(str(child.pid))\n"
        "part.put('rows', [1]); time.sleep(600)"
    )
    slow = Stage("peaks", "", 1, 4, 1, 1, needs_bundle=False)
    found = visit(tmp_path, [QUICK, slow], {"peaks": hanging})
    assert found["stages"]["peaks"]["status"] == "stopped"
    assert found["stages"]["peaks"]["found"] == {"rows": [1]}
    time.sleep(0.2)
    state = Path(f"/proc/{started.read_text()}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_a_stage_that_is_killed_says_so(tmp_path):
    found = visit(tmp_path, [QUICK, PEAKS], {"peaks": "import os; os.kill(os.getpid(), 9)"})
    assert found["stages"]["peaks"]["status"] == "failed"
    assert found["stages"]["peaks"]["why"] == "signal 9; it ended without a word"


def test_without_a_bundle_what_needs_it_is_skipped(tmp_path):
    found = visit(tmp_path, [QUICK, BUNDLE, PARITY], {"bundle": "raise SystemExit('no disk')"})
    assert found["stages"]["bundle"]["status"] == "failed"
    assert found["stages"]["parity"] == {"status": "skipped", "why": "there is no bundle to run"}


def test_a_visit_ends_where_it_would_measure_no_gpu(tmp_path):
    idle = Stage("bundle", "", 1, 300, 1, 0, alongside=True)
    code = {"facts": "part.put('useless', 'no CUDA')", "bundle": "time.sleep(300)"}
    began = time.monotonic()
    found = visit(tmp_path, [QUICK, idle, PARITY], code)
    assert time.monotonic() - began < 60
    assert list(found["stages"]) == ["facts"]
    assert not complete(found)
    assert "The visit ended here. no CUDA" in (tmp_path / "out" / "gpu.unknown.md").read_text()


def test_what_does_not_fit_any_more_is_dropped_when_its_turn_comes(tmp_path):
    dear = Stage("parity", "", 3_000, 4_000, 1, 2, needs_bundle=False)
    found = visit(tmp_path, [QUICK, PEAKS, dear], {})
    assert found["stages"]["peaks"]["status"] == "done"
    assert found["stages"]["parity"]["status"] == "dropped"
    assert "of the budget were left" in found["stages"]["parity"]["why"]


def test_stages_run_in_their_group_so_that_an_end_reaches_all(tmp_path):
    found = visit(tmp_path, [QUICK], {"facts": f"import os; part.put('group', os.getpgid(0)); {GOOD}"})
    assert found["stages"]["facts"]["found"]["group"] != os.getpgid(0)


def test_the_environment_has_our_sources_and_hides_the_gpu_when_asked(tmp_path):
    about = environment(tmp_path, hide_gpu=True)
    assert about["CUDA_VISIBLE_DEVICES"] == ""
    done = subprocess.run(
        [sys.executable, "-c", "import scgpt_runtime, scgpt_export, benchmarks.gpu_visit"],
        env=about,
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_no_stage_imports_what_a_gpu_machine_may_lack():
    code = (
        "import sys, importlib, pkgutil, scgpt_export.build, benchmarks.gpu_visit as package\n"
        "for one in pkgutil.iter_modules(package.__path__):\n"
        "    importlib.import_module(f'benchmarks.gpu_visit.{one.name}')\n"
        "import benchmarks.gpu\n"
        "print([name for name in ('anndata', 'pandas', 'click', 'scgpt_infer') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.strip() == "[]", done.stderr


# What a stage writes -------------------------------------------------------------------------------------------------


def test_a_part_is_whole_after_each_row_and_has_no_nan(tmp_path):
    part = Part(tmp_path / "part.json")
    part.add("rows", {"way": "a", "rate": float("nan")})
    assert json.loads((tmp_path / "part.json").read_text()) == {"rows": [{"way": "a", "rate": None}]}
    again = Part(tmp_path / "part.json")  # as after a restart
    assert again.has("rows", way="a")
    assert not again.has("rows", way="b")
    again.add("rows", {"way": "b", "rate": 1})
    assert [row["way"] for row in again.found["rows"]] == ["a", "b"]


def test_a_question_comes_through_a_file_as_it_was(tmp_path):
    ask = Ask(tmp_path, tmp_path / "out", True, True, 3, 12.5)
    ask.save(tmp_path / "ask.json")
    assert Ask.load(tmp_path / "ask.json") == ask


# Joining -------------------------------------------------------------------------------------------------------------


def document(began: str, stages: dict[str, str], **changes) -> dict:
    made = record.new(False, 0, False) | {"began": began, "device": {"name": "NVIDIA H100 80GB HBM3"}}
    return (
        made
        | {"stages": {name: {"status": status, "found": {"of": began}} for name, status in stages.items()}}
        | changes
    )


def test_visits_to_one_gpu_are_joined_stage_by_stage():
    first = document("2026-01-01 00:00:00", {"facts": "done", "parity": "done", "sweep": "stopped"})
    second = document("2026-01-01 00:10:00", {"facts": "done", "parity": "failed", "sweep": "done"})
    joined = record.join([second, first])
    assert {name: stage["found"]["of"][-5:] for name, stage in joined["stages"].items()} == {
        "facts": "10:00",
        "parity": "00:00",
        "sweep": "10:00",
    }
    assert record.slug(joined) == "nvidia-h100-80gb-hbm3"


def test_a_rehearsal_is_never_kept():
    with pytest.raises(SystemExit, match="rehearsal holds no GPU figure"):
        record.join([document("2026-01-01 00:00:00", {}, rehearsal=True)])


def test_results_of_two_gpus_are_not_joined():
    other = document("2026-01-02 00:00:00", {}, device={"name": "NVIDIA H200"})
    with pytest.raises(SystemExit, match="2 kinds"):
        record.join([document("2026-01-01 00:00:00", {}), other])


def test_a_file_that_is_no_result_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(SystemExit, match="expected schema 1"):
        record.load(tmp_path / "x.json")
