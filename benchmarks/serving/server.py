"""A server for a benchmark, in processes of its own, and what they cost: `serving`, `Server`.

In: settings. Out: its port, and processor time and memory of each of its processes, by role, from Linux's /proc.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Server", "serving"]

ROOT = Path(__file__).parents[2]
_READY_SECONDS = 300.0
_TICK = os.sysconf("SC_CLK_TCK")

_CODE = """
import json, sys
from scgpt_infer.server.settings import Settings
from scgpt_infer.server.supervisor import serve
sys.exit(serve(Settings.heard(json.loads(sys.argv[1])), **json.loads(sys.argv[2])))
"""


@dataclass(slots=True)
class Server:
    """A server that is ready.

    Attributes
    ----------
    port
        On this machine.
    pid
        Of its supervisor.
    memory
        (seconds since it was watched, bytes) of all its processes together: proportional set sizes.
    """

    port: int
    pid: int
    memory: list[tuple[float, int]] = field(default_factory=list)

    def processes(self) -> dict[int, str]:
        """Role of each process: supervisor, frontend, seat."""
        found = {self.pid: "supervisor"}
        for path in Path("/proc").iterdir():
            if path.name.isdigit() and _parent(path) == self.pid:
                words = (path / "cmdline").read_bytes().decode(errors="replace")
                role = re.search(r"server\.(front|seat)\.process", words)
                if role:
                    found[int(path.name)] = {"front": "frontend", "seat": "seat"}[role[1]]
        return found

    def used(self) -> dict[str, float]:
        """Processor seconds so far, by role."""
        used: defaultdict[str, float] = defaultdict(float)
        for pid, role in self.processes().items():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used[role] += (int(fields[11]) + int(fields[12])) / _TICK
        return dict(used)

    @contextmanager
    def watched(self, every: float = 5.0) -> Iterator[None]:
        """Look at its memory while the block runs."""
        ended, began = threading.Event(), time.monotonic()

        def look() -> None:
            while not ended.wait(every):
                self.memory.append((time.monotonic() - began, sum(map(_pss, self.processes()))))

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@contextmanager
def serving(
    bundle: str, settings: Mapping[str, Any], opener: str | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A server with one model, called ``model``; ended in order behind the block.

    Parameters
    ----------
    bundle
        The model.
    settings
        Fields of `scgpt_infer.server.settings.Settings` that are not at their defaults.
    opener
        What opens the model. None: the seat itself.
    environment
        Variables beside ours.
    """
    told = {"models": [{"name": "model", "path": bundle}], "port": 0, "log_level": "warning", **settings}
    port = _free_port() if not settings.get("port") else settings["port"]
    words = [sys.executable, "-c", _CODE, json.dumps({**told, "port": port}, default=str)]
    words.append(json.dumps({} if opener is None else {"opener": opener}))
    process = subprocess.Popen(words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})})
    try:
        _wait(process, port)
        yield Server(port, process.pid)
    finally:
        process.terminate()
        process.wait(120)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + _READY_SECONDS
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError("The server did not become ready; what it said stands above.")


def _free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _parent(path: Path) -> int:
    try:
        return int((path / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _pss(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    found = re.search(r"^Pss: +(\d+)", text, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0
