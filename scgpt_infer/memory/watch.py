"""Memory of a job while it runs: `Watch` compares it with what is granted, frees what can be freed, else ends the job.

In: bytes granted, and the cells that are done, as they are told. Out: an end by which nothing is lost that was done. It
plans nothing.
"""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from scgpt_infer.interrupts import Stopped, ask_to_stop, take_back
from scgpt_infer.memory.measure import held_bytes, resident_bytes, trim
from scgpt_infer.sizes import size
from scgpt_runtime.errors import OptionError

__all__ = ["Watch", "line_of", "memory_for"]

_LOOK_S = 0.1
_TRIM_S = 1.0
# What stays free: a part of what is granted, and no less than a moment's growth.
_FREE, _LEAST_FREE = 32, 16_000_000


def line_of(memory: int) -> int:
    """Bytes up to which a job may plan and grow, of those that are granted."""
    return memory - max(memory // _FREE, _LEAST_FREE)


def memory_for(n_bytes: int) -> int:
    """The least round number of bytes to grant of which `line_of` gives at least so many."""
    least = max(n_bytes * _FREE // (_FREE - 1), n_bytes + _LEAST_FREE) + 1
    return -(-least // 10_000_000) * 10_000_000


class Watch:
    """Minds the memory of this process and its children. A context manager around a job.

    Near the limit it first frees what nobody uses. If that does not help, the job is asked to stop as by a signal, and
    what is in flight is finished and kept; above the limit it ends at the next batch.

    Parameters
    ----------
    memory
        Bytes granted; None: nothing is minded.
    held
        Tells what is held; None: the system does.

    Attributes
    ----------
    peak
        Most bytes that were seen.
    """

    def __init__(self, memory: int | None, held: Callable[[], int] | None = None) -> None:
        self.memory, self.peak = memory, 0
        self._held = held
        self._over: int | None = None  # what was held when it was found too much
        self._trimmed = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._mind, name="scgpt-infer memory", daemon=True)

    def __enter__(self) -> Self:
        if self.memory is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self.memory is not None:
            self._thread.join()
        if self._over is not None:
            take_back()
            if isinstance(error, Stopped):
                refusal = self._refusal()
                for note in getattr(error, "__notes__", ()):  # they say what is kept
                    refusal.add_note(note)
                raise refusal from None

    def telling(self, progress: Callable[[int, int], None] | None) -> Callable[[int, int], None]:
        """A progress that tells another one, and ends the job where more is held than was granted."""

        def told(done: int, total: int) -> None:
            if progress is not None:
                progress(done, total)
            self.honour()

        return told

    def honour(self) -> None:
        """Raise `OptionError` where more is held than was granted, and nothing could be freed."""
        if self._over is not None and self.memory is not None and self._over > self.memory:
            raise self._refusal()

    def look(self) -> None:
        """Compare what is held with what is granted, once."""
        if self.memory is None or (self._held is None and resident_bytes() <= line_of(self.memory)):
            return  # resident memory is never less, and told a thousand times as fast
        tell = self._held or held_bytes
        held = tell()
        if held > line_of(self.memory) and time.monotonic() - self._trimmed > _TRIM_S:
            trim()
            self._trimmed = time.monotonic()
            held = tell()
            if held > line_of(self.memory) and self._over is None:
                self._over = held
                ask_to_stop()
        self.peak = max(self.peak, held)
        if self._over is not None:
            self._over = max(self._over, held)

    def _mind(self) -> None:
        while not self._ended.wait(_LOOK_S):
            self.look()

    def _refusal(self) -> OptionError:
        over, memory = self._over or 0, self.memory or 0
        return OptionError(
            f"The job held {size(over)}, and {size(memory)} are granted: it ended before it could take more. What was "
            "done is kept. Grant more and run the same command again: "
            f"--memory {told_size(memory_for(over + over // 4))}."
        )


def told_size(n_bytes: int) -> str:
    """A size as it can be given again, in whole megabytes."""
    return f"{-(-n_bytes // 1_000_000)}MB"
