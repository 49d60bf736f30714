"""A server's private folder goes with it, whatever ended it."""

import errno
import fcntl
import subprocess
import sys
import tempfile
from pathlib import Path

from scgpt_infer.server.folder import private_folder

HELD = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from scgpt_infer.server.folder import private_folder
with private_folder() as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_server_left_goes_and_what_others_have_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    command = [sys.executable, "-c", HELD, str(tmp_path)]
    held, killed = (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    )
    with held, killed:
        alive, left = (Path(one.stdout.readline().strip()) for one in (held, killed))
        strange = tmp_path / "scgpt-infer-serve-of-somebody"
        strange.mkdir()
        with private_folder() as own:
            assert {*tmp_path.iterdir()} == {alive, left, strange, own}
        killed.kill()
        killed.wait()
        with private_folder() as own:
            assert {*tmp_path.iterdir()} == {alive, strange, own}
        held.stdin.close()
    assert {*tmp_path.iterdir()} == {strange}


def test_a_file_system_without_locks_is_no_reason_not_to_start(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(fcntl, "flock", flock)
    with private_folder() as own:
        assert {*tmp_path.iterdir()} == {own}
    assert not [*tmp_path.iterdir()]
