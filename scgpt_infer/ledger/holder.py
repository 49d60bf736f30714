"""Who holds a lock: `Holder`, what its file says of it, and whether it can still be at work.

A process is looked up on the machine and boot where its number means something. It knows no file.
"""

import json
import os
import socket
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Self
from uuid import uuid4

__all__ = ["Holder", "named", "parsed"]


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock.

    Attributes
    ----------
    host, boot, namespace
        The machine, its boot, and the space in which its process numbers mean something: a container has its own.
    pid, started
        The process and its start, in ticks since the boot: numbers of processes come again.
    since
        When it took the lock, by its own clock; for people.
    token
        Tells this lock from all others.
    beats
        The counter.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    started: str
    since: str
    token: str
    beats: int = 0

    @classmethod
    def here(cls) -> Self:
        """The process that asks."""
        now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        return cls(socket.gethostname(), *_machine(), os.getpid(), _start_of(os.getpid()), now, uuid4().hex)

    def told(self) -> bytes:
        """What the file of a lock says of it, as long for every count."""
        return json.dumps(asdict(self) | {"beats": f"{self.beats:012d}"}).encode() + b"\n"

    def surely_gone(self) -> bool:
        """Whether it can be looked up here and is not there: host names alone may be shared by two machines."""
        here = _machine()
        return all(here) and (self.boot, self.namespace) == here and _start_of(self.pid) != self.started


def parsed(held: bytes) -> Holder | None:
    """Who holds a lock, as its file says; None where that says nothing."""
    try:
        facts = json.loads(held)
        return Holder(**(facts | {"beats": int(facts["beats"])}))
    except (ValueError, TypeError, KeyError):
        return None  # being written, or not ours: watched all the same


def named(held: bytes) -> str:
    """Who holds a lock, for people."""
    holder = parsed(held)
    return "a process" if holder is None else f"process {holder.pid} on {holder.host}, since {holder.since}"


def _machine() -> tuple[str, str]:
    """Boot and process namespace; empty where the system does not tell, and then every lock is watched."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")
    except OSError:
        return "", ""


def _start_of(pid: int) -> str:
    """When a process started, in ticks since the boot; empty when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return ""
    state, start = fields[0], fields[19]
    return "" if state in (b"Z", b"X") else start.decode()
