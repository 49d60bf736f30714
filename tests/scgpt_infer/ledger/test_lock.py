"""Locks between real processes: one alone is at work, and what a dead or stopped one held is taken over."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from scgpt_infer.ledger.lock import Lock, clear
from scgpt_runtime.errors import OutputError

BEAT, PATIENCE = 0.05, 1.0

_HOLD = """
import sys
from pathlib import Path
from scgpt_infer.ledger.lock import Lock
from scgpt_runtime.errors import OutputError
try:
    with Lock.take(Path(sys.argv[1]), beat=float(sys.argv[2]), patience=float(sys.argv[3])) as lock:
        print("held", flush=True)
        sys.stdin.readline()
        lock.check()
        print("still held", flush=True)
except OutputError as error:
    print(error, flush=True)
"""


@contextmanager
def another(path, beat=BEAT, patience=PATIENCE):
    command = [sys.executable, "-c", _HOLD, str(path), str(beat), str(patience)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def take(path, patience=PATIENCE, **others):
    return Lock.take(path, beat=BEAT, patience=patience, **others)


def forge(path, **changes):
    """A lock as another process would have left it, from one of ours."""
    with take(path) as lock:
        facts = json.loads(path.read_text())
        lock.check()
    path.write_text(json.dumps(facts | changes))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lock"


def test_a_lock_is_there_while_it_is_held_and_nothing_is_left(path):
    with take(path) as lock:
        lock.check()
        assert json.loads(path.read_text())["pid"] == os.getpid()
        assert list(path.parent.iterdir()) == [path]
    assert list(path.parent.iterdir()) == []
    with take(path) as lock:
        lock.check()


def test_of_two_live_processes_one_is_refused_and_told_who_is_at_work(path):
    told = []
    with another(path) as process:
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(OutputError, match=f"Another process is at work on .*process {process.pid} on .*, since"),
            take(path, say=told.append),
        ):
            pytest.fail("two hold the lock")
        assert f"process {process.pid}" in told[0]
        out, _ = process.communicate("\n")
    assert out == "still held\n"
    assert list(path.parent.iterdir()) == []


def test_of_many_that_come_at_once_one_holds_it(path):
    """All begin while an abandoned lock lies there, so that they contend for taking it over as well."""
    forge(path, boot="another boot")
    with another(path) as one, another(path) as two, another(path) as three:
        first = [process.stdout.readline() for process in (one, two, three)]
        assert sorted(line == "held\n" for line in first) == [False, False, True]
        assert sum("is at work" in line for line in first) == 2
        holder = (one, two, three)[first.index("held\n")]
        assert holder.communicate("\n")[0] == "still held\n"


@pytest.mark.parametrize("waited_for", [False, True])
def test_what_a_killed_process_held_is_taken_over_at_once(path, waited_for):
    """Also while its parent has not yet asked how it ended."""
    with another(path) as process:
        assert process.stdout.readline() == "held\n"
        process.kill()
        if waited_for:
            process.wait()
        else:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        began = time.monotonic()
        with take(path, patience=60.0) as lock:
            lock.check()
        assert time.monotonic() - began < 5


def test_a_process_that_has_the_number_of_a_dead_one_is_not_it(path):
    forge(path, started="1")
    with take(path, patience=60.0) as lock:
        lock.check()


@pytest.mark.parametrize("changes", [{"host": "elsewhere", "boot": "other"}, {"namespace": "pid:[1]"}])
def test_a_holder_that_cannot_be_looked_up_is_watched_until_it_has_stood_still_for_long(path, changes):
    forge(path, pid=2**22 + 1, **changes)
    began = time.monotonic()
    with take(path, patience=0.5) as lock:
        assert time.monotonic() - began >= 0.5
        lock.check()
    assert list(path.parent.iterdir()) == []


def test_the_clock_of_another_machine_does_not_matter(path):
    forge(path, boot="other", host="elsewhere", since="2199-01-01 00:00:00+00:00")
    with take(path, patience=0.2) as lock:
        lock.check()


def test_a_file_that_says_nothing_is_watched_and_taken_over(path):
    path.write_bytes(b"")
    with take(path, patience=0.2) as lock:
        lock.check()


def test_a_stopped_holder_is_taken_over_and_finds_it_out_when_it_goes_on(path):
    with another(path) as process:
        assert process.stdout.readline() == "held\n"
        os.kill(process.pid, signal.SIGSTOP)
        with take(path) as lock:
            os.kill(process.pid, signal.SIGCONT)
            out, _ = process.communicate("\n")
            assert f"process {os.getpid()} on" in out
            assert "has taken over" in out
            lock.check()


def test_a_lock_that_is_given_back_while_it_is_watched_is_free(path):
    with another(path, beat=60.0) as process:  # its counter does not move while we look
        assert process.stdout.readline() == "held\n"
        process.stdin.write("\n")
        process.stdin.flush()
        with take(path, patience=60.0) as lock:
            lock.check()


def test_a_removed_folder_is_found_out(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    with take(folder / "lock") as lock:
        (folder / "lock").unlink()
        folder.rmdir()
        with pytest.raises(OutputError, match="is gone"):
            lock.check()


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_where_files_cannot_be_linked_one_alone_holds_it_too(path, monkeypatch, number):
    def refused(*names):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refused)
    with take(path) as lock:
        lock.check()
        with pytest.raises(OutputError, match="is at work"), take(path):
            pytest.fail("two hold the lock")
        lock.check()
    assert list(path.parent.iterdir()) == []


def test_a_link_whose_answer_was_lost_is_ours(path, monkeypatch):
    link = os.link

    def linked_without_answer(*names):
        link(*names)
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))

    monkeypatch.setattr(os, "link", linked_without_answer)
    with take(path) as lock:
        lock.check()
    assert list(path.parent.iterdir()) == []


def test_a_full_disk_is_told_and_leaves_nothing(path, monkeypatch):
    def full(handle, data, offset):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OutputError, match="the disk is full"), take(path):
        pytest.fail("nothing was written")
    assert list(path.parent.iterdir()) == []


def test_a_lock_of_another_name_is_cleared_when_nobody_is_at_work_and_refused_else(path):
    clear(path)
    with another(path) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match="is at work"):
            clear(path, patience=PATIENCE)
        process.kill()
        clear(path, patience=60.0)
    assert list(path.parent.iterdir()) == []


def test_a_folder_that_goes_with_the_lock_of_another_is_made_again(tmp_path, monkeypatch):
    folder, link = tmp_path / "parts", os.link
    (folder / "lock").parent.mkdir()

    def gone_before(private, path):
        monkeypatch.setattr(os, "link", link)
        private.unlink()
        folder.rmdir()
        link(private, path)

    monkeypatch.setattr(os, "link", gone_before)
    with take(folder / "lock") as lock:
        lock.check()
    with pytest.raises(OutputError), take(tmp_path / "no" / "such" / "lock"):
        pytest.fail("there is no folder for the folder")
