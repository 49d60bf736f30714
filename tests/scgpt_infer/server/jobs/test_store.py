"""What the files of jobs tell, to every server that shares them."""

import errno
import os
import time

import pytest

from scgpt_infer.ledger.lock import Lock
from scgpt_infer.server.jobs import store as storing
from scgpt_infer.server.jobs.records import Ended, Made, Progress, upload_in
from scgpt_infer.server.jobs.store import JobStore
from scgpt_runtime.errors import OutputError


def test_another_server_that_shares_the_folder_sees_the_same(store, submit):
    second = submit(created=2.0)
    first = submit(created=1.0, owner="anna")
    store.tell(first, Progress(10, 1100, 1))
    other = JobStore(store.root)
    assert [job.id for job in other.all()] == [first.id, second.id]
    assert other.find(first.id).submitted == first.submitted
    assert other.find(first.id).progress == Progress(10, 1100, 1)
    assert other.n_open() == 2


def test_a_job_is_queued_running_or_ended(store, submit):
    job = submit()
    assert store.find(job.id).state == "queued"
    with Lock.take(job.lock):
        assert store.find(job.id).state == "running"
    store.end(job, Ended("failed", 1.0, "no"))
    assert store.find(job.id).state == "failed"
    assert store.n_open() == 0


def test_who_ends_a_job_first_decides_how(store, submit):
    job = submit()
    job.results.mkdir()
    (job.results / "made.npy").write_bytes(b"123")
    assert store.end(job, Ended("succeeded", 1.0, made=(Made("made.npy", 3),)))
    assert not store.end(job, Ended("cancelled", 2.0))
    assert store.find(job.id).ended.state == "succeeded"
    assert (job.results / "made.npy").exists()
    assert not job.upload.exists()


def test_what_ends_after_a_job_was_removed_brings_nothing_back(store, submit):
    job = submit()
    store.remove(job)
    store.tell(job, Progress(1, 2))
    assert not store.end(job, Ended("succeeded", 1.0))
    assert store.is_ended(job)
    assert store.find(job.id) is None
    assert list(store.root.iterdir()) == []


@pytest.mark.parametrize("name", ["..", "x", "", "0" * 31, "A" * 32, "../" + "0" * 32])
def test_only_ids_of_ours_are_looked_for(store, name):
    assert store.find(name) is None


@pytest.mark.parametrize("name", ["job.json", "end.json"])
def test_a_job_of_a_version_to_come_is_left_alone_and_told_once(store, submit, caplog, name):
    job = submit()
    (job.folder / name).write_text('{"asked": 3, "state": 3}')
    assert (store.all(), store.all()) == ([], [])
    store.sweep(50.0)
    assert job.upload.exists()
    assert [str(job.folder / name) in line for line in caplog.messages] == [True]


def test_a_job_of_a_version_to_come_goes_when_it_ended_long_ago(store, submit):
    ended, waiting = submit(), submit()
    for job, name in ((ended, "end.json"), (waiting, "job.json")):
        (job.folder / name).write_text('{"asked": 3, "state": 3}')
        os.utime(job.folder / name, (1, 1))
    store.sweep(50.0)
    assert (ended.folder.exists(), waiting.folder.exists()) == (False, True)


def test_a_job_that_has_ended_is_read_once(store, submit, monkeypatch):
    open_one, ended = submit(created=1.0), submit(created=2.0)
    store.end(ended, Ended("failed", 1.0))
    store.all()
    found, read = store.find, []
    monkeypatch.setattr(store, "find", lambda name: read.append(name) or found(name))
    assert [job.state for job in store.all()] == ["queued", "failed"]
    assert read == [open_one.id]
    JobStore(store.root).remove(ended)
    assert [job.id for job in store.all()] == [open_one.id]


def test_a_clock_that_is_wrong_removes_nothing(store, submit, monkeypatch):
    job, upload = submit(), store.begin()
    store.end(job, Ended("succeeded", 1.0))
    monkeypatch.setattr(time, "time", lambda: 1e10)
    store.sweep(1000.0)
    assert store.find(job.id) is not None
    assert upload.exists()


def test_old_jobs_dead_uploads_and_leftovers_are_swept_and_nothing_else(store, submit):
    now = time.time()
    old, fresh, waiting = submit(), submit(), submit()
    store.end(old, Ended("succeeded", now))
    store.end(fresh, Ended("succeeded", now - 100))  # by a server whose clock is behind
    os.utime(old.folder / "end.json", (now - 100, now - 100))
    dead, alive = store.begin(), store.begin()
    upload_in(dead, ".csv").write_bytes(b"1")
    for path in (upload_in(dead, ".csv"), dead / "upload", dead, alive):
        os.utime(path, (now - 10_000, now - 10_000))
    upload_in(alive, ".csv").write_bytes(b"1")
    (store.root / ".gone.x").mkdir()
    (store.root / "notes of the operator").mkdir()
    store.sweep(50.0)
    left = {path.name for path in store.root.iterdir()}
    assert left == {fresh.id, waiting.id, alive.name, "notes of the operator"}


def test_room_counts_uploads_results_and_what_is_at_work(store, submit):
    before = store.used_bytes()
    job = submit()
    added = store.used_bytes() - before
    assert added > job.upload.stat().st_size
    parts = job.results / "x.npy.parts"
    parts.mkdir(parents=True)
    (parts / "1").write_bytes(b"x" * 1000)
    assert store.used_bytes() - before == added + 1000


def test_a_job_whose_files_fill_the_disk_ends_all_the_same(store, submit, monkeypatch):
    job = submit()
    parts = job.results / "x.npy.parts"
    parts.mkdir(parents=True)
    fsync = storing.fsync

    def full(path):
        if parts.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(path)

    monkeypatch.setattr(storing, "fsync", full)
    with pytest.raises(OutputError, match="disk is full"):
        store.end(job, Ended("succeeded", 1.0))
    assert store.find(job.id).ended is None
    assert store.end(job, Ended("failed", 1.0, "the disk is full"))
    assert store.find(job.id).ended.error == "the disk is full"
    assert not parts.exists()
