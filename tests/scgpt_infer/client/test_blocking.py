"""Requests that block, and programs that do not wait for them any more."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from threading import Thread

import httpx
import pytest

from scgpt_infer.client import Retry, UnreachableError
from scgpt_infer.client.blocking import Blocking
from scgpt_infer.client.messages import Request
from scgpt_infer.client.retrying import Patience, answered

_WITHIN_S = 20.0

_SCRIPT = """
import sys
import httpx
from scgpt_infer.client.blocking import Blocking
from scgpt_infer.client.messages import Request
from scgpt_infer.client.retrying import Patience, answered
line = Blocking(httpx.Client(base_url=sys.argv[1]))
list(line.in_order(iter([answered(Request("GET", "/"), Patience())]), 2))
"""


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(_WITHIN_S)
        yield server


def taken(server: socket.socket) -> socket.socket:
    """A connection on which a request has come."""
    connection, _ = server.accept()
    connection.settimeout(_WITHIN_S)
    assert connection.recv(2**16).startswith(b"GET")
    return connection


def url(server: socket.socket) -> str:
    return f"http://127.0.0.1:{server.getsockname()[1]}"


def test_closing_ends_what_waits_for_an_answer(silent):
    line = Blocking(httpx.Client(base_url=url(silent)))
    ends = []

    def ask() -> None:
        try:
            line.run(answered(Request("GET", "/"), Patience(None, Retry(attempts=1))))
        except UnreachableError as error:
            ends.append(error)

    thread = Thread(target=ask, daemon=True)
    thread.start()
    with taken(silent) as connection:
        line.close()
        assert connection.recv(1) == b""
        thread.join(_WITHIN_S)
    assert len(ends) == 1


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_interrupted_program_does_not_wait_for_answers(silent):
    program = subprocess.Popen([sys.executable, "-c", _SCRIPT, url(silent)], stderr=subprocess.PIPE)
    try:
        with taken(silent) as connection:
            program.send_signal(signal.SIGINT)
            assert connection.recv(1) == b""
            _, told = program.communicate(timeout=_WITHIN_S)
    finally:
        program.kill()
    assert b"KeyboardInterrupt" in told
