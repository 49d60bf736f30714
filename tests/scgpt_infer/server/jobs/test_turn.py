"""A job's turn: a process does it, under a lease; it ends once, however it ends."""

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

from scgpt_infer.ledger.lock import Lock
from scgpt_infer.server.jobs import child, turn
from scgpt_infer.server.jobs.asked import JobAsked
from scgpt_infer.server.jobs.errand import Errand, Stopped
from scgpt_infer.server.jobs.records import Ended, Progress
from scgpt_infer.server.jobs.store import JobStore
from scgpt_infer.server.jobs.turn import TRIES, Terms, take

TERMS = Terms(most_bytes=2**40)


def _no() -> bool:
    return False


def _in_thread(*how):
    thread = threading.Thread(target=take, args=how)
    thread.start()
    return thread


def test_a_job_succeeds_and_keeps_its_results_alone(store, submit, toy_seat):
    job = submit(output="h5ad")
    take(store, job, toy_seat.path, TERMS, _no)
    found = store.find(job.id)
    assert found.state == "succeeded"
    assert [made.name for made in found.ended.made] == ["my_cells.embedded.h5ad", "my_cells.embedded.h5ad.bad.csv"]
    assert [(found.results / made.name).stat().st_size for made in found.ended.made] == [
        made.bytes for made in found.ended.made
    ]
    assert (found.progress.cells_done, found.progress.cells, found.progress.tries) == (1100, 1100, 0)
    assert found.ended.summary["output"] == "my_cells.embedded.h5ad"
    assert str(store.root) not in (found.folder / "end.json").read_text()
    assert not found.upload.exists()


def test_a_folder_and_a_model_named_from_the_servers_own_folder(submit, toy_seat, toy_model, tmp_path, monkeypatch):
    (tmp_path / "toy.bundle").symlink_to(toy_model)
    monkeypatch.setattr(toy_seat, "told_path", "toy.bundle")
    monkeypatch.chdir(tmp_path)
    store = JobStore(Path("jobs"))
    job = submit()
    take(store, store.find(job.id), toy_seat.path, TERMS, _no)
    found = store.find(job.id)
    assert (found.state, found.ended.error) == ("succeeded", None)


def test_the_log_has_an_error_as_it_was(store, submit, toy_seat, caplog):
    job = submit(name='x"y.h5ad')
    job.upload.write_bytes(b"no h5ad")
    with caplog.at_level("INFO"):
        take(store, job, toy_seat.path, TERMS, _no)
    assert str(job.upload) in caplog.messages[-1]
    assert 'x"y.h5ad' in store.find(job.id).ended.error


def test_a_file_at_fault_fails_its_job_in_words_that_name_it_as_its_owner_does(store, submit, toy_seat):
    job = submit()
    job.upload.write_bytes(b"no h5ad")
    take(store, job, toy_seat.path, TERMS, _no)
    found = store.find(job.id)
    assert found.state == "failed"
    assert "my cells.h5ad" in found.ended.error
    assert str(store.root) not in found.ended.error
    assert not found.results.exists() or not list(found.results.iterdir())


def test_a_server_that_ends_leaves_the_job_to_the_next_with_what_is_done(store, submit, toy_seat, monkeypatch):
    job, stop, stopped = submit(), threading.Event(), threading.Event()

    class Telling(turn.Child):
        def stop(self):
            super().stop()
            stopped.set()

    monkeypatch.setattr(turn, "Child", Telling)
    toy_seat.gate.clear()
    working = _in_thread(store, job, toy_seat.path, TERMS, stop.is_set)
    toy_seat.begun.wait()
    assert store.find(job.id).state == "running"
    stop.set()
    stopped.wait()
    toy_seat.gate.set()
    working.join()
    found = store.find(job.id)
    assert found.state == "queued"
    assert found.progress.tries == 0
    take(store, found, toy_seat.path, TERMS, _no)
    assert store.find(job.id).ended.summary["n_kept"] == 1024


def test_a_process_that_does_not_end_in_time_is_ended(store, submit, toy_seat):
    job = submit()
    toy_seat.gate.clear()
    take(store, job, toy_seat.path, replace(TERMS, grace=lambda: 0.1), toy_seat.begun.is_set)
    found = store.find(job.id)
    assert (found.state, found.progress.tries) == ("queued", 0)


def test_a_server_that_has_no_more_time_ends_a_process_that_was_given_some(store, submit, toy_seat):
    job, asked, at_once = submit(), threading.Event(), threading.Event()

    def grace():
        asked.set()
        return 0.0 if at_once.is_set() else 3600.0

    toy_seat.gate.clear()
    working = _in_thread(store, job, toy_seat.path, replace(TERMS, grace=grace), toy_seat.begun.is_set)
    toy_seat.begun.wait()
    asked.wait()
    at_once.set()
    working.join(60)
    assert not working.is_alive()


def test_a_process_that_says_no_more_and_does_not_end_is_ended(monkeypatch, tmp_path):
    monkeypatch.setattr(child, "program", lambda function: "import os, time\nos.close(1)\ntime.sleep(60)")
    monkeypatch.setattr(child, "_END_S", 0.1)
    with child.Child(Errand(JobAsked("toy", "x.csv"), f"{tmp_path}/x.csv", str(tmp_path), "")) as silent:
        while not silent.ended:
            assert silent.next(20) is None
        assert "SIGKILL" in silent.fate()


def test_a_killed_process_is_tried_again_and_a_file_that_always_kills_it_given_up(store, submit, toy_seat, monkeypatch):
    job = submit()

    class Dying(turn.Child):
        def next(self, seconds):
            os.kill(self._process.pid, signal.SIGKILL)
            return super().next(seconds)

    with monkeypatch.context() as patch:
        patch.setattr(turn, "Child", Dying)
        take(store, job, toy_seat.path, TERMS, _no)
    found = store.find(job.id)
    assert (found.state, found.progress.tries) == ("queued", 1)
    store.tell(job, replace(found.progress, tries=TRIES - 1))
    with monkeypatch.context() as patch:
        patch.setattr(turn, "Child", Dying)
        take(store, found, toy_seat.path, TERMS, _no)
    assert store.find(job.id).state == "failed"
    assert "SIGKILL" in store.find(job.id).ended.error


def test_a_job_without_its_model_waits(store, submit, tmp_path):
    job = submit()
    take(store, job, tmp_path / "nobody", TERMS, _no)
    assert store.find(job.id).state == "queued"
    store.tell(job, Progress(tries=TRIES))
    take(store, job, tmp_path / "nobody", TERMS, _no)  # the server died at each of its tries
    assert store.find(job.id).state == "failed"


def test_a_cancelled_job_ends_its_process_and_leaves_no_file(store, submit, toy_seat):
    job = submit()
    toy_seat.gate.clear()
    working = _in_thread(store, job, toy_seat.path, TERMS, _no)
    toy_seat.begun.wait()
    assert store.end(job, Ended("cancelled", 1.0))
    working.join()
    assert store.find(job.id).state == "cancelled"
    assert not job.upload.exists()
    assert not list(job.results.iterdir())


def test_one_server_alone_works_on_a_job(store, submit, toy_seat):
    job = submit()
    with Lock.take(job.lock, beat=0.1):
        take(store, job, toy_seat.path, replace(TERMS, beat=0.1, patience=2.0), _no)
    assert toy_seat.asked == []
    assert store.find(job.id).state == "queued"


def test_a_job_waits_for_as_long_as_its_models_bundle_is_not_the_one_that_is_served(store, submit, toy_seat, tmp_path):
    job, toy_seat.told_path = submit(), str(tmp_path / "gone")
    store.tell(job, Progress(tries=TRIES - 1))
    for _ in range(2):
        take(store, store.find(job.id), toy_seat.path, TERMS, _no)
        assert store.find(job.id).state == "queued"
    toy_seat.told_path = ""
    take(store, store.find(job.id), toy_seat.path, TERMS, _no)
    assert store.find(job.id).state == "succeeded"


def test_a_process_that_was_asked_to_stop_is_no_try(store, submit, toy_seat, monkeypatch):
    job = submit()
    monkeypatch.setattr(turn.Child, "next", lambda self, seconds: Stopped())
    take(store, job, toy_seat.path, TERMS, _no)
    assert store.find(job.id).progress.tries == 0
