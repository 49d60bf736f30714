"""Processes and models under a supervisor: loads that meet, bundles that are exchanged, signals, starts that fail."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from scgpt_infer.models import resolve
from scgpt_runtime.bundle import seal
from scgpt_runtime.vocab import Vocabulary

from .conftest import serving
from .test_running import ask, body, post, running_requests


def other_genes(folder):
    """The demo model with the names of its genes exchanged: the same weights, other vectors for the same names."""
    shutil.copytree(resolve("demo").path, folder)
    known = Vocabulary.from_json((folder / "vocab.json").read_text())
    genes = [place for place, name in enumerate(known.tokens) if not name.startswith("<")]
    tokens = list(known.tokens)
    for place, name in zip(genes, [known.tokens[place] for place in genes[::-1]], strict=True):
        tokens[place] = name
    (folder / "vocab.json").write_text(Vocabulary(tuple(tokens)).to_json())
    manifest = resolve("demo").manifest
    (folder / "manifest.json").unlink()
    seal(folder, manifest)
    return folder


def seats_of(server):
    """Numbers of the processes of models, the oldest first."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return sorted(int(one) for one in children if "seat.process" in Path(f"/proc/{one}/cmdline").read_text())


def status_of(call, *arguments):
    try:
        call(*arguments)
    except urllib.error.HTTPError as error:
        return error.code
    return 200


def until(true):
    limit = time.monotonic() + 60
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_models_that_are_loaded_exchanged_and_let_go_of(tmp_path):
    models = tmp_path / "models"
    shutil.copytree(resolve("demo").path, models / "m")
    other = other_genes(tmp_path / "other")
    with serving(tmp_path, models_dir=models, model_control=True) as server:
        url, demo = server.url, ask(server.url, 1)
        # loads that meet: one is done, none leaves a process behind
        with ThreadPoolExecutor(3) as threads:
            codes = list(threads.map(lambda _: status_of(post, url, "/v2/repository/models/m/load"), range(3)))
        assert sorted(codes) == [200, 409, 409]
        assert len(seats_of(server)) == 2
        np.testing.assert_array_equal(ask(url, 1, model="m"), demo)
        # another bundle in its place is met when its process dies, with its own genes
        (models / "m").rename(tmp_path / "gone")
        shutil.copytree(other, tmp_path / "coming")
        (tmp_path / "coming").rename(models / "m")
        np.testing.assert_array_equal(ask(url, 1, model="m"), demo)
        os.kill(seats_of(server)[-1], signal.SIGKILL)
        until(lambda: status_of(ask, url, 1, 1, "m") == 200)
        changed = ask(url, 1, model="m")
        assert np.abs(changed - demo).max() > 1e-3
        assert any("another bundle now" in line["message"] for line in server.lines())
        # let go of, exchanged, and loaded again
        assert post(url, "/v2/repository/models/m/unload") == 200
        shutil.rmtree(models / "m")
        shutil.copytree(resolve("demo").path, models / "m")
        assert post(url, "/v2/repository/models/m/load") == 200
        np.testing.assert_array_equal(ask(url, 1, model="m"), demo)
        # exchanged, and told so twice
        shutil.copytree(other, tmp_path / "coming")
        (models / "m").rename(tmp_path / "gone too")
        (tmp_path / "coming").rename(models / "m")
        for _ in range(2):
            server.process.send_signal(signal.SIGHUP)
            time.sleep(0.2)  # two signals at once are one
        until(lambda: any("was loaded anew" in line["message"] for line in server.lines()))
        np.testing.assert_array_equal(ask(url, 1, model="m"), changed)
        assert not any("stays as it is" in line["message"] for line in server.lines())
        # a model of the start that is let go of does not make the server unready, and comes back
        assert post(url, "/v2/repository/models/demo/unload") == 200
        assert server.get("/readyz")["status"] == "ready"
        assert status_of(ask, url, 1) == 404
        until(lambda: len(seats_of(server)) == 1)
        assert post(url, "/v2/repository/models/demo/load") == 200
        np.testing.assert_array_equal(ask(url, 1), demo)


def begun(server):
    """A connection whose request is at work: its head is there, half of its body too."""
    host, whole = urlsplit(server.url), body(1)
    link = socket.create_connection((host.hostname, host.port), timeout=30)
    head = f"POST /v2/models/demo/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(whole)}\r\n\r\n"
    link.sendall(head.encode() + whole[:50])
    until(lambda: running_requests(server) == 1)
    return link, whole[50:]


def test_whoever_comes_after_the_drain_is_refused_and_who_was_there_is_answered(tmp_path):
    with serving(tmp_path) as server:
        host = urlsplit(server.url)
        link, rest = begun(server)
        with link:
            server.process.send_signal(signal.SIGTERM)
            until(lambda: refused(host.hostname, host.port))
            link.sendall(rest)
            assert link.recv(100).startswith(b"HTTP/1.1 200")
        assert server.process.wait(30) == 0


def refused(host, port):
    try:
        socket.create_connection((host, port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_second_signal_ends_at_once_and_says_that_something_was_cut_off(tmp_path):
    with serving(tmp_path, drain_seconds=60, grace_seconds=60) as server:
        link, _ = begun(server)
        with link:
            server.process.send_signal(signal.SIGTERM)
            until(lambda: any("Ending" in line["message"] for line in server.lines()))
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(20) == 3


def test_a_terminal_that_interrupts_a_start_is_heard_by_the_supervisor_alone(tmp_path):
    command = [sys.executable, "-m", "scgpt_infer", "serve", "--model", "demo", "--port", "0"]
    log = tmp_path / "log"
    with log.open("wb") as stream:
        server = subprocess.Popen(command, stderr=stream, start_new_session=True)
    try:
        until(lambda: "Listening." in log.read_text())
        time.sleep(0.5)  # its processes import what they need
        os.killpg(server.pid, signal.SIGINT)
        assert server.wait(60) == 0
    finally:
        server.kill()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    ("words", "environment", "told"),
    [
        (["--jobs-dir", "/proc/nothing/here"], {}, "--jobs-dir"),
        ([], {"TMPDIR": "long"}, "TMPDIR"),
    ],
)
def test_a_start_that_cannot_be_ends_with_what_to_do(words, environment, told, tmp_path):
    if environment:
        folder = tmp_path / ("x" * 100)
        folder.mkdir()
        environment = {"TMPDIR": str(folder)}
    command = [sys.executable, "-m", "scgpt_infer", "serve", "--model", "demo", "--port", "0", *words]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environment}
    )
    assert ended.returncode == 2
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr
