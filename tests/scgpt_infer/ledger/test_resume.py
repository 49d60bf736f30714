"""Runs that go on where another one ended, also among parts that someone has broken by hand.

What can be trusted is used; the rest is done anew, or refused by name.
"""

import json
import os
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from scgpt_infer import interrupts
from scgpt_infer.api import embed_file
from scgpt_infer.interrupts import Stopped, asked_to_stop
from scgpt_infer.ledger.lock import Lock, clear
from scgpt_infer.spans import Shard
from scgpt_infer.work import WorkOptions
from scgpt_infer.writers.row_report import RowReport
from scgpt_runtime.errors import CellsError, OutputError

N_CELLS = 4 * 1024 + 10
STOP_AT = 3 * 1024


def test_what_is_kept_is_not_done_again(job, wanted):
    job.interrupt()
    kept = len(job.kept())
    assert job.run() == wanted
    assert job.begun_with == kept * 1024
    assert sorted(path.name for path in job.folder.iterdir()) == ["x.cells.txt", "x.npy", "x.npy.json"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_request_to_stop_is_followed_when_the_range_in_flight_is_kept(job, wanted, caught, number):
    kept = []

    def ask(done):
        if done >= STOP_AT and asked_to_stop() is None:
            kept.append(len(job.kept()))
            signal.raise_signal(number)

    with pytest.raises(Stopped) as ended:
        job.run(ask)
    assert ended.value.exit_code == 75
    assert len(job.kept()) == kept[0] + 1  # the range that was next in order
    interrupts.catch()
    assert job.run() == wanted
    assert job.begun_with == (kept[0] + 1) * 1024


def test_a_shard_that_is_asked_to_stop_in_its_last_range_is_done(job, cells, toy_model, caught):
    def ask(done, total):
        if done == total and asked_to_stop() is None:
            signal.raise_signal(signal.SIGTERM)

    summary = embed_file(cells, job.output, toy_model, progress=ask, work=WorkOptions(shard=Shard(0, 4)))
    assert asked_to_stop() == signal.SIGTERM
    assert summary.shard == "0/4"
    assert summary.n_cells == len(job.kept()) * 1024


@pytest.mark.parametrize("torn", [b'{"first_row":1024,"n_ce', b"\x00\xff\n\n[1]\n{}\nnull\n", b'{"first_row":1}'])
def test_a_line_that_is_no_mark_counts_for_nothing(job, wanted, torn):
    job.interrupt()
    kept = len(job.kept())
    with job.ledger.open("ab") as file:
        file.write(torn)
    assert job.run() == wanted
    assert job.begun_with == kept * 1024


def test_a_ledger_that_lost_its_last_line_does_that_range_again(job, wanted):
    job.interrupt()
    kept = len(job.kept())
    data = job.ledger.read_bytes()
    job.ledger.write_bytes(data[:-20])
    assert job.run() == wanted
    assert job.begun_with == (kept - 1) * 1024


@pytest.mark.parametrize("lost", ["removed", "cut", "empty"])
def test_a_part_that_is_lost_is_done_again(job, wanted, lost):
    job.interrupt()
    kept = job.kept()
    if lost == "removed":
        kept[0].unlink()
    else:
        os.truncate(kept[0], 0 if lost == "empty" else kept[0].stat().st_size - 1)
    assert job.run() == wanted
    assert job.begun_with == (len(kept) - 1) * 1024


def test_a_part_that_was_changed_is_named_and_nothing_is_written(job, wanted):
    job.interrupt()
    part = job.kept()[1]
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    with pytest.raises(OutputError, match=f"{part.name} is not the part that was written.*Remove it") as ended:
        job.run()
    assert "the same command goes on" in ended.value.__notes__[0]
    assert not job.output.exists()
    part.unlink()
    assert job.run() == wanted


def test_a_part_in_the_place_of_another_is_named(job):
    job.interrupt()
    first, second = job.kept()[:2]
    second.write_bytes(first.read_bytes())
    with pytest.raises(OutputError, match="is not the part"):
        job.run()


def test_parts_of_other_work_are_refused_by_what_differs_or_removed_when_that_is_asked_for(job, wanted):
    job.interrupt(max_length=9, seed=3)
    kept = [path.read_bytes() for path in job.kept()]
    with pytest.raises(OutputError, match=r"holds the parts of other work.*max_length 9 instead of.*seed 3 instead of"):
        job.run()
    assert [path.read_bytes() for path in job.kept()] == kept
    assert job.run(work=WorkOptions(resume=False)) == wanted
    assert job.begun_with == 0


def test_cells_that_have_changed_are_other_work(job, tmp_path):
    own = tmp_path / "own.h5ad"
    shutil.copy(job.cells, own)
    job.cells = own
    job.interrupt()
    changed = ad.read_h5ad(own)
    changed.X[0, 0] += 1
    changed.write_h5ad(own)
    with pytest.raises(OutputError, match=r"holds the parts of other work.*input"):
        job.run()


def test_other_work_of_which_nothing_is_kept_gives_way(job, wanted):
    job.interrupt(max_length=9)
    job.ledger.unlink()  # as a run that is killed while it clears leaves it
    assert job.run() == wanted
    assert not job.parts.exists()


def test_an_input_to_which_the_result_was_added_is_not_asked_to_be_as_before(job, tmp_path, monkeypatch):
    job.cells = job.output = Path(shutil.copy(job.cells, tmp_path / "own.h5ad"))
    job.parts = tmp_path / "own.h5ad.parts"
    job.interrupt(in_place=True)
    unlink = Path.unlink

    def killed(path, missing_ok=False):
        unlink(path, missing_ok)
        if path.name == "ledger.jsonl":
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        job.run(in_place=True)
    monkeypatch.setattr(Path, "unlink", unlink)
    assert "X_scGPT" in ad.read_h5ad(job.output).obsm
    job.run(in_place=True)
    assert not job.parts.exists()


def test_an_input_to_which_the_result_was_added_is_done_when_the_run_was_killed_behind_that(job, tmp_path, monkeypatch):
    cells = ad.read_h5ad(job.cells)
    cells.X.data[cells.X.indptr[7] : cells.X.indptr[8]] = 0
    job.cells = job.output = tmp_path / "own.h5ad"
    job.parts, report = tmp_path / "own.h5ad.parts", tmp_path / "own.h5ad.bad.csv"
    cells.write_h5ad(job.cells)
    commit = RowReport.commit

    def killed(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(RowReport, "commit", killed)
    with pytest.raises(KeyboardInterrupt):
        job.run(in_place=True)
    monkeypatch.setattr(RowReport, "commit", commit)
    added, kept = job.output.read_bytes(), job.kept()
    with pytest.raises(OutputError, match=r"other work.*seed"):
        job.run(in_place=True, seed=5)
    assert job.kept() == kept
    assert job.run(in_place=True) == added
    assert job.begun_with == N_CELLS
    assert not job.parts.exists()
    assert report.read_text().splitlines()[1].startswith("7,c0007,")


def test_the_whole_goes_on_where_a_shard_ended_and_a_shard_where_the_whole_did(job, wanted):
    job.run(work=WorkOptions(shard=Shard(1, 2)))
    assert len(job.kept()) == 3
    job.interrupt()
    job.run(work=WorkOptions(shard=Shard(0, 2)))
    assert len(job.kept()) == 5
    assert job.run() == wanted
    assert job.begun_with == N_CELLS


def test_a_shard_and_the_whole_are_not_done_at_once(job):
    """What another is at, as its lock says, is not begun."""
    job.parts.mkdir()
    with Lock.take(job.parts / "lock", beat=0.05), pytest.raises(OutputError, match="Another process is at work"):
        job.run(work=WorkOptions(shard=Shard(0, 2)))
    with Lock.take(job.parts / "lock.0-of-2", beat=0.05), pytest.raises(OutputError, match="Another process is at"):
        job.run()


@pytest.mark.parametrize("when", ["at work", "making the output"])
def test_who_was_taken_over_writes_no_more_and_leaves_the_other_alone(job, when, monkeypatch):
    def take_over(*_):
        lock = job.parts / "lock"
        facts = json.loads(lock.read_text()) | {"token": "another's"}
        lock.unlink()
        lock.write_text(json.dumps(facts))

    if when == "making the output":
        monkeypatch.setattr("scgpt_infer.keeping.digest", lambda marks: take_over() or "")
    with pytest.raises(OutputError, match="has taken over"):
        job.run(take_over if when == "at work" else None)
    assert not job.output.exists()
    assert (job.parts / "lock").exists()
    assert (job.parts / "plan.json").exists()


def test_locks_of_many_dead_shards_are_watched_at_once(job, wanted, monkeypatch):
    job.interrupt()
    with Lock.take(job.parts / "lock") as lock:
        dead = json.loads(lock.path.read_text()) | {"host": "elsewhere", "boot": "another"}
    for number in range(20):
        (job.parts / f"lock.{number}-of-20").write_text(json.dumps(dead))
    monkeypatch.setattr("scgpt_infer.ledger.lock.clear", partial(clear, patience=0.5))
    began = time.monotonic()
    assert job.run() == wanted
    assert time.monotonic() - began < 8
    assert not job.parts.exists()


def test_when_all_cells_are_bad_nothing_is_left(job, tmp_path):
    cells = ad.AnnData(sparse.csr_matrix((1500, 5), dtype=np.float32))
    cells.var_names = [f"G{i}" for i in range(5)]
    job.cells = tmp_path / "empty.h5ad"
    cells.write_h5ad(job.cells)
    with pytest.raises(CellsError):
        job.run()
    assert list(job.folder.iterdir()) == [job.cells]
