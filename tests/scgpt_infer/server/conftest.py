"""A real server for tests: processes, a port, the demo model."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_READY_S = 120.0

_CODE = """
import json, sys
from scgpt_infer.server.settings import Settings
from scgpt_infer.server.supervisor import serve
sys.exit(serve(Settings.heard(json.loads(sys.argv[1]))))
"""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers.

    Attributes
    ----------
    url
        Where.
    process
        Its supervisor.
    log
        What it has told so far, an object a line.
    """

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def lines(self) -> list[dict[str, Any]]:
        """What it has told so far."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]  # whole ones

    def get(self, path: str) -> Any:
        """The JSON at a path."""
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[Running]:
    """A server of its own with these settings; ready when it is given, ended in order behind the test."""
    told = {"models": [{"name": "demo", "path": "demo"}], "port": 0, "options": {"provider": "cpu"}, **settings}
    log = folder / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", _CODE, json.dumps(told, default=str)],
            stderr=stream,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    try:
        yield Running(_until_ready(process, log), process, log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            process.kill()


def _until_ready(process: subprocess.Popen[bytes], log: Path) -> str:
    until, url = time.monotonic() + _READY_S, ""
    while time.monotonic() < until:
        assert process.poll() is None, f"The server ended:\n{log.read_text()}"
        for line in log.read_text().splitlines():
            if line.startswith("{") and line.endswith("}"):
                url = json.loads(line).get("url", url)
        if url:
            try:
                with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
                    if answer.status == 200:
                        return url
            except OSError:  # 503, until the model is there
                pass
        time.sleep(0.05)
    raise AssertionError(f"The server was not ready after {_READY_S} s:\n{log.read_text()}")


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with the demo model, jobs, the page, and models that may be loaded. Tests leave it as they find it."""
    folder = Path(tempfile.mkdtemp(prefix="serve-", dir=tmp_path_factory.mktemp("running")))
    with serving(folder, jobs_dir=folder / "jobs", ui=True, model_control=True) as server:
        yield server
