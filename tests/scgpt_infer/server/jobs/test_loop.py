"""What is taken next, by whom; and the loop itself, from the submitted file to the swept job."""

import threading
import time
from pathlib import Path

from scgpt_infer.server.jobs import loop as looping
from scgpt_infer.server.jobs.loop import loop
from scgpt_infer.server.jobs.records import Ended, Progress
from scgpt_infer.server.jobs.store import JobStore
from scgpt_infer.server.jobs.turn import Terms

TERMS = Terms(most_bytes=2**40)


def _until(condition, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def _running(store, places, workers: int = 1, ttl: float = 1e6):
    stop = threading.Event()
    how = {"workers": workers, "ttl": ttl}
    thread = threading.Thread(target=loop, args=(store, places, TERMS, stop), kwargs=how)
    thread.start()
    return stop, thread


def test_jobs_are_done_when_their_model_is_there_and_go_when_they_are_old(store, submit, toy_seat, monkeypatch):
    monkeypatch.setattr(looping, "_LOOK_S", 0.02)
    monkeypatch.setattr(looping, "_SWEEP_S", 0.02)
    places: dict[str, Path] = {}
    job, other = submit(), submit(model="of another server")
    stop, thread = _running(store, lambda: places, ttl=0.5)
    try:
        assert store.find(job.id).state == "queued"
        places["toy"] = toy_seat.path
        _until(lambda: store.find(job.id) is None)
        assert toy_seat.asked == [0, 1024]
        assert store.find(other.id).state == "queued"
    finally:
        stop.set()
        thread.join()


def test_two_servers_share_a_folder_and_do_each_job_once(store, submit, toy_seat, monkeypatch):
    monkeypatch.setattr(looping, "_LOOK_S", 0.02)
    jobs = [submit(created=float(number)) for number in range(3)]
    places = {"toy": toy_seat.path}
    servers = [_running(one, lambda: places) for one in (store, JobStore(store.root))]
    try:
        _until(lambda: all(store.find(job.id).state == "succeeded" for job in jobs))
        assert len(toy_seat.asked) == 2 * len(jobs)
    finally:
        for stop, thread in servers:
            stop.set()
            thread.join()


def test_a_disk_that_fails_ends_nothing(store, submit, toy_seat, monkeypatch):
    monkeypatch.setattr(looping, "_LOOK_S", 0.02)
    job, failing = submit(), [OSError("stale"), OSError("stale")]
    found = store.all

    def unsteady():
        if failing:
            raise failing.pop()
        return found()

    monkeypatch.setattr(store, "all", unsteady)
    stop, thread = _running(store, lambda: {"toy": toy_seat.path})
    try:
        _until(lambda: store.find(job.id).state == "succeeded")
    finally:
        stop.set()
        thread.join()


def _next(store, resting=None, at_work=(), workers: int = 10):
    resting = resting or looping._Resting(30.0)
    places = {"toy": Path("socket")}
    found = looping._next(store.all(), places, dict.fromkeys(at_work, None), resting, workers)
    return [job.id for job, _ in found]


def test_turns_go_round_the_owners_the_oldest_job_first(store, submit):
    first, second, third = (submit(owner="anna", created=float(number)) for number in range(3))
    late = submit(owner="ben", created=9.0)
    store.end(submit(created=0.0), Ended("failed", 1.0))
    assert _next(store) == [first.id, late.id, second.id, third.id]
    assert _next(store, at_work=[first.id], workers=2) == [late.id]


def test_a_job_under_anothers_lease_is_taken_when_that_one_stands_still(store, submit, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(looping.time, "monotonic", lambda: now[0])
    job, resting = submit(), looping._Resting(30.0)
    job.lock.write_bytes(b"another machine, beat 1")
    assert _next(store, resting) == []
    now[0] += 29
    job.lock.write_bytes(b"another machine, beat 2")
    assert _next(store, resting) == []
    now[0] += 29
    assert _next(store, resting) == []
    now[0] += 2
    assert _next(store, resting) == [job.id]


def test_a_job_that_was_tried_in_vain_rests_the_longer(store, submit, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(looping.time, "monotonic", lambda: now[0])
    job, resting = submit(), looping._Resting(30.0)
    store.tell(job, Progress(tries=3))
    resting.rest(job, store)
    now[0] += 7
    assert _next(store, resting) == []
    now[0] += 2
    assert _next(store, resting) == [job.id]
