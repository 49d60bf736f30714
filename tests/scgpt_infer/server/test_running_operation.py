"""The command as an operator starts it: settings of a file, keys, TLS, two front ends, signals, broken clients."""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

ASKED = {"cells": [{"genes": {"CD3D": 2, "LYZ": 4, "NKG7": 1}}]}
PATIENCE = 60.0
"""Seconds until a test gives up on a process."""


class Server:
    """A command that serves."""

    def __init__(self, folder, *words, **environment):
        self.log = folder / "log"
        command = [sys.executable, "-m", "scgpt_infer", "serve", *words]
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(command, stderr=stream, env={**os.environ, **environment}, cwd=folder)

    def lines(self):
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def told(self, **facts):
        """The first line of the log with these facts, as soon as there is one."""
        return until(lambda: next((one for one in self.lines() if facts.items() <= one.items()), None), self)


def until(look, server):
    """What a look gives, as soon as it gives something."""
    end = time.monotonic() + PATIENCE
    while not (found := look()):
        assert server.process.poll() is None, server.log.read_text()
        assert time.monotonic() < end, server.log.read_text()
        time.sleep(0.02)
    return found


def metrics_of(client):
    lines = [line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def certify(folder):
    """A new certificate and its key."""
    made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -keyout key.pem -out cert.pem"
    command = ["openssl", *made.split(), "-subj", "/CN=here", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)


@pytest.fixture
def operated(tmp_path):
    """A server, and a client that trusts its certificate, a connection a request so that both front ends are asked."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl, which makes the certificate")
    folder = tmp_path
    certify(folder)
    (folder / "keys").write_text("lab:of-the-lab\n")
    told = {"keys-file": "keys", "tls-cert": "cert.pem", "tls-key": "key.pem", "provider": "cpu", "max-cells": 3}
    (folder / "serve.toml").write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in told.items()))
    words = ("--config", "serve.toml", "--model", "demo", "--port", "0")
    server = Server(folder, *words, SCGPT_INFER_SERVE_FRONTENDS="2", SCGPT_INFER_SERVE_MAX_CELLS="2")
    try:
        url = server.told(message="Listening.")["url"]
        trusted = ssl.create_default_context(cafile=str(folder / "cert.pem"))
        limits = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(base_url=url, verify=trusted, limits=limits, timeout=PATIENCE) as client:
            until(lambda: client.get("/readyz").status_code == 200, server)
            yield server, client, folder
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0
    finally:
        server.process.kill()


def test_a_server_with_a_file_keys_tls_and_two_front_ends(operated):
    """One server, since to start it takes longer than all that is asked of it."""
    server, client, folder = operated
    a_key_is_asked_for_and_its_owner_stands_in_the_log_and_the_key_nowhere(server, client)
    the_environment_comes_before_the_file(client)
    metrics_are_the_sum_over_all_processes_and_a_front_end_that_dies_is_replaced(server, client)
    keys_are_read_again_by_all_front_ends_when_a_hangup_says_so(server, client, folder)
    a_renewed_certificate_is_given_by_all_front_ends_when_a_hangup_says_so(server, client, folder)


def a_key_is_asked_for_and_its_owner_stands_in_the_log_and_the_key_nowhere(server, client):
    assert client.post("/v1/embed", json=ASKED).status_code == 401
    headers = {"Authorization": "Bearer of-the-lab", "X-Request-Id": "asked-1"}
    answer = client.post("/v1/embed", json=ASKED, headers=headers)
    assert (answer.status_code, answer.headers["x-request-id"]) == (200, "asked-1")
    line = server.told(request_id="asked-1", message="Answered.")
    assert (line["client"], line["route"], line["status"], line["model"]) == ("lab", "/v1/embed", 200, "demo")
    assert "of-the-lab" not in server.log.read_text()


def the_environment_comes_before_the_file(client):
    answer = client.post("/v1/embed", json={"cells": ASKED["cells"] * 3}, headers={"X-API-Key": "of-the-lab"})
    assert answer.status_code == 413
    assert "2" in answer.json()["error"]


def metrics_are_the_sum_over_all_processes_and_a_front_end_that_dies_is_replaced(server, client):
    before = metrics_of(client)
    asked = 'scgpt_infer_requests_total{method="POST",route="/v1/embed",status="200"}'
    for number in range(12):
        headers = {"X-API-Key": "of-the-lab", "X-Request-Id": f"sum-{number}"}
        client.post("/v1/embed", json=ASKED, headers=headers).raise_for_status()
    after = metrics_of(client)
    assert after[asked] - before.get(asked, 0) == 12
    assert after['scgpt_infer_tokens_total{model="demo"}'] - before['scgpt_infer_tokens_total{model="demo"}'] == 12 * 4
    assert after['scgpt_infer_queued_tokens{model="demo"}'] == 0
    fronts = fronts_of(server)
    assert len(fronts) == 2
    os.kill(fronts[0], signal.SIGKILL)
    until(lambda: metrics_of(client).get('scgpt_infer_restarts_total{process="frontend"}') == 1, server)
    assert metrics_of(client)[asked] == after[asked]


def fronts_of(server):
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [int(child) for child in children if "front.process" in Path(f"/proc/{child}/cmdline").read_text()]


def keys_are_read_again_by_all_front_ends_when_a_hangup_says_so(server, client, folder):
    (folder / "keys").write_text("lab:the-next-one\n")
    server.process.send_signal(signal.SIGHUP)

    def all_know():
        answers = [client.get("/v1/models", headers={"X-API-Key": "the-next-one"}).status_code for _ in range(8)]
        return answers == [200] * 8

    until(all_know, server)
    assert {client.get("/v1/models", headers={"X-API-Key": "of-the-lab"}).status_code for _ in range(8)} == {401}


def a_renewed_certificate_is_given_by_all_front_ends_when_a_hangup_says_so(server, client, folder):
    certify(folder)
    server.process.send_signal(signal.SIGHUP)
    new = (folder / "cert.pem").read_text()

    def all_give():
        return {ssl.get_server_certificate((client.base_url.host, client.base_url.port)) for _ in range(8)} == {new}

    until(all_give, server)


def test_slow_and_broken_clients_cost_others_nothing(running):
    where = urlsplit(running.url)
    head = b"POST /v1/embed HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n"
    with ExitStack() as stack, httpx.Client(base_url=running.url, timeout=PATIENCE) as client:
        for sent in (b"", head[:20], head + b"\r\n", head + b'\r\n{"cells": [', b"\x16\x03\x01\r\n\r\n") * 40:
            slow = stack.enter_context(socket.create_connection((where.hostname, where.port)))
            slow.sendall(sent)
        for _ in range(20):  # these leave without their answer
            with socket.create_connection((where.hostname, where.port)) as gone:
                body = json.dumps(ASKED).encode()
                gone.sendall(head.replace(b"1000", b"%d" % len(body)) + b"\r\n" + body)
        began = time.monotonic()
        for _ in range(10):
            assert client.post("/v1/embed", json=ASKED).status_code == 200
        assert time.monotonic() - began < PATIENCE / 2
    assert running.process.poll() is None
