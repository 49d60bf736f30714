"""Workers as processes of this machine: `Processes`, words over a pair of sockets each.

A worker is a fresh interpreter, not a fork: GPU drivers and thread pools do not survive one. It runs on its own cores,
leaves signals to the process that started it, and ends when that one does, however it ends.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

from scgpt_infer.scale.messages import FromWorker, Lost, ToWorker
from scgpt_infer.scale.seats import Seat
from scgpt_infer.tied import program

if TYPE_CHECKING:
    from scgpt_infer.scale.errand import Errand
    from scgpt_infer.scale.worker import Inbox

__all__ = ["Processes", "serve"]

_CORES = "import os; os.sched_setaffinity(0, {})"
"""What a worker runs first, since libraries count cores when they are loaded."""

_LEFT_ALONE = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
_END_S = 5.0


@dataclass(frozen=True, slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    link: Connection


class Processes:
    """Starts workers on this machine; a `Transport`."""

    def __init__(self) -> None:
        self._workers: dict[int, _Worker] = {}

    def start(self, number: int, errand: "Errand", seat: Seat) -> None:
        """See `Transport`."""
        ours, theirs = socket.socketpair()
        with theirs:
            cores = _CORES.format(seat.cores) if seat.cores and hasattr(os, "sched_setaffinity") else ""
            code = program("scgpt_infer.scale.processes:serve", theirs.fileno(), before=cores)
            process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=2,  # results alone go to standard output
                pass_fds=[theirs.fileno()],
            )
        self._workers[number] = _Worker(process, Connection(ours.detach()))
        self._send(number, (errand, seat))

    def give(self, number: int, word: ToWorker) -> None:
        """See `Transport`."""
        self._send(number, word)

    def next(self, timeout: float) -> tuple[int, FromWorker] | None:
        """See `Transport`."""
        ready = wait([worker.link for worker in self._workers.values()], timeout)
        heard = [number for number, worker in self._workers.items() if worker.link in ready]
        if not heard:
            return None
        number = heard[0]
        try:
            word: FromWorker = self._workers[number].link.recv()
        except (EOFError, OSError):
            return number, Lost(self._buried(number))
        self._workers[number] = self._workers.pop(number)  # the others come first next time: nobody is talked down
        return number, word

    def close(self) -> None:
        """See `Transport`."""
        for worker in self._workers.values():
            worker.process.kill()
            worker.link.close()
        for worker in self._workers.values():
            worker.process.wait()
        self._workers.clear()

    def _send(self, number: int, word: object) -> None:
        worker = self._workers.get(number)
        if worker is None:
            return
        try:
            worker.link.send(word)
        except OSError:  # it is gone: `next` finds it out
            return

    def _buried(self, number: int) -> str:
        """Let go of a process that has closed its link; how it ended."""
        worker = self._workers.pop(number)
        worker.link.close()
        try:
            code = worker.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            code = worker.process.wait()
        if code >= 0:
            return f"process {worker.process.pid} ended with exit code {code}."
        name = signal.Signals(-code).name
        why = "; often the system's memory ran out" if name == "SIGKILL" else ""
        return f"process {worker.process.pid} was ended by {name}{why}."


def serve(handle: int) -> None:
    """Be a worker, in its own process.

    Parameters
    ----------
    handle
        File descriptor of the socket that leads to the crew.
    """
    for name in _LEFT_ALONE:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    from scgpt_infer.scale.worker import Inbox, work

    link, inbox = Connection(handle), Inbox()
    errand, seat = link.recv()
    threading.Thread(target=_read, args=(link, inbox), name="scgpt-infer inbox", daemon=True).start()
    work(errand, seat, inbox, link.send)


def _read(link: Connection, inbox: "Inbox") -> None:
    while True:
        try:
            inbox.put(link.recv())
        except (EOFError, OSError):  # the crew is gone
            os._exit(1)
