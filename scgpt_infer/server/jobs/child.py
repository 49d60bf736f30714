"""A process of a job, as the one that started it knows it: `Child`, words as they come, and its end.

It does not trust what the process says: lines have a limit, and what is no word of ours is none.
"""

import os
import select
import signal
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

import msgspec

from scgpt_infer.server.confining import environment
from scgpt_infer.server.jobs.errand import Errand, Word, words
from scgpt_infer.tied import program

__all__ = ["Child"]

_SERVE = "scgpt_infer.server.jobs.runner:serve"
_PIECE = 1 << 16
_LINE_BYTES = 16 << 20
_END_S = 5.0


class Child:
    """Starts a process for an errand. A context manager: leaving it ends the process.

    Parameters
    ----------
    errand
        What it is to do.
    """

    def __init__(self, errand: Errand) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", program(_SERVE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=os.path.dirname(errand.upload),
            env=environment(),
            start_new_session=True,  # a terminal's signals are for the server, which says when to end
        )
        self._heard = b""
        self._open = True
        assert self._process.stdin is not None
        with self._process.stdin as stream:
            stream.write(msgspec.json.encode(errand))

    def next(self, seconds: float) -> Word | None:
        """The next word, or None when none comes in so many seconds, or there are no more (`ended`)."""
        until = time.monotonic() + seconds
        while b"\n" not in self._heard and self._open:
            left = until - time.monotonic()
            if left <= 0 or not self._hear(left):
                return None
        line, _, self._heard = self._heard.partition(b"\n")
        try:
            return words.decode(line) if line else None
        except msgspec.MsgspecError:
            self._process.kill()
            return None

    @property
    def ended(self) -> bool:
        """Whether it will say no more."""
        return not self._open and not self._heard

    def stop(self) -> None:
        """Ask it to end after the block that it is at, which is kept."""
        self._process.terminate()

    def fate(self) -> str:
        """How it ended, for people; one that says no more and does not end is ended."""
        code = self._end(_END_S)
        if code >= 0:
            return f"its process ended with exit code {code}"
        name = signal.Signals(-code).name
        why = ", often since the memory ran out" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{why}"

    def _hear(self, seconds: float) -> bool:
        """Read what there is; whether there was something."""
        assert self._process.stdout is not None
        handle = self._process.stdout.fileno()
        if not select.select([handle], [], [], seconds)[0]:
            return False
        piece = os.read(handle, _PIECE)
        self._heard += piece
        if len(self._heard) > _LINE_BYTES:
            self._process.kill()
        self._open = bool(piece) and len(self._heard) <= _LINE_BYTES
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._end(0 if kind is not None or not self.ended else _END_S)

    def _end(self, seconds: float) -> int:
        """Its exit code; it has so many seconds to end by itself."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
