"""What a folder of parts may hold besides the parts of the work: of others, of killed runs, damaged."""

import json
import os
import shutil

import pytest

from scgpt_infer.work import WorkOptions
from scgpt_runtime.errors import OutputError

N_CELLS = 4 * 1024 + 10


@pytest.mark.parametrize("resume", [True, False])
def test_a_folder_of_another_that_has_the_name_is_refused_and_stays(job, resume):
    job.parts.mkdir()
    for name in ("plan.json", "part-1.npz", "part-000000000000.npz", "ledger-2024.jsonl", "lock.txt", "notes.txt"):
        (job.parts / name).write_text("mine")
    there = sorted(job.parts.iterdir())
    with pytest.raises(OutputError, match=r"x\.npy\.parts holds ledger-2024\.jsonl.*Move it away"):
        job.run(work=WorkOptions(resume=resume))
    assert sorted(job.parts.iterdir()) == there
    assert {path.read_text() for path in there} == {"mine"}


def test_files_in_a_folder_of_ours_that_have_almost_our_names_stay(job, wanted):
    job.interrupt()
    for name in ("part-1.npz", "ledger-2024.jsonl", "lock.txt", ".lock.mine", "plan.json.old"):
        (job.parts / name).write_text("mine")
    assert job.run() == wanted
    assert {path.read_text() for path in job.parts.iterdir()} == {"mine"}
    assert len(list(job.parts.iterdir())) == 5


def test_a_link_with_the_name_of_the_folder_is_refused(job, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "plan.json").write_text("mine")
    job.parts.symlink_to(elsewhere)
    with pytest.raises(OutputError, match=r"x\.npy\.parts is a link"):
        job.run()
    assert [path.name for path in elsewhere.iterdir()] == ["plan.json"]


def test_what_a_run_that_was_killed_at_its_beginning_has_left_does_not_block(job, wanted):
    job.parts.mkdir()
    token = "0" * 32
    for name in (f".lock.{token}", f".lock.0-of-2.{token}.stale", ".plan.json.abcdefgh.part"):
        (job.parts / name).write_text("{")
    assert job.run() == wanted
    assert not job.parts.exists()


def test_parts_without_a_plan_are_not_trusted(job, wanted):
    job.interrupt()
    (job.parts / "plan.json").unlink()
    with pytest.raises(OutputError, match=r"plan.json, which tells of what work they are, is gone.*--no-resume"):
        job.run()
    assert job.run(work=WorkOptions(resume=False)) == wanted


@pytest.mark.parametrize("text", ["", "{", '{"format": 99}', '{"format": 1}', "[]"])
def test_a_plan_that_cannot_be_read_is_said_to_be_so(job, wanted, text):
    job.interrupt()
    (job.parts / "plan.json").write_text(text)
    with pytest.raises(OutputError, match=r"plan\.json"):
        job.run()
    assert job.run(work=WorkOptions(resume=False)) == wanted


def test_a_ledger_without_its_parts_and_parts_without_their_ledger_are_done_again(job, wanted):
    job.interrupt()
    for part in job.kept():
        part.unlink()
    job.interrupt()
    job.ledger.unlink()
    assert job.run() == wanted
    assert job.begun_with == 0


def test_a_folder_that_is_removed_in_mid_run_ends_it_with_a_word(job, wanted):
    def remove(done):
        if done >= 3 * 1024 and job.kept():
            shutil.rmtree(job.parts)

    with pytest.raises(OutputError, match=r"x\.npy\.parts"):
        job.run(remove)
    assert not job.output.exists()
    shutil.rmtree(job.parts, ignore_errors=True)
    assert job.run() == wanted


def test_a_file_where_the_folder_should_be_is_said(job):
    job.parts.write_text("mine")
    with pytest.raises(OutputError, match=r"x\.npy\.parts is a file.*Rename it"):
        job.run()
    assert job.parts.read_text() == "mine"


def test_files_of_others_in_the_folder_stay(job, wanted):
    job.interrupt()
    (job.parts / "notes.txt").write_text("mine")
    assert job.run() == wanted
    assert [path.name for path in job.parts.iterdir()] == ["notes.txt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_write_protected_is_said(job):
    job.interrupt()
    job.parts.chmod(0o500)
    try:
        with pytest.raises(OutputError, match=r"x\.npy\.parts"):
            job.run()
    finally:
        job.parts.chmod(0o700)


def test_marks_of_rows_that_are_no_range_count_for_nothing(job, wanted):
    job.interrupt()
    lines = [json.loads(line) for line in job.ledger.read_text().splitlines()]
    odd = [
        {**lines[0], "first_row": 7},
        {**lines[0], "n_cells": 5, "first_row": 3072},
        {**lines[0], "first_row": -1024},
    ]
    with job.ledger.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in odd)
    assert job.run() == wanted
    assert job.begun_with == len(lines) * 1024
