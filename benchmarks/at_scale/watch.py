"""Memory of this process while it works.

In: nothing but Linux's /proc. Out: the most that was seen. It looks twice a second in a thread of its own; ``peak`` is
the kernel's own mark, which misses nothing.
"""

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Watch"]

EVERY_SECONDS = 0.5


class Watch:
    """Watches this process while its context is open.

    Attributes
    ----------
    pss
        Most proportional set size that was seen, bytes.
    """

    def __init__(self) -> None:
        self.pss = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    @property
    def peak(self) -> int:
        """Most memory that the process has held so far, bytes."""
        return _field(Path("/proc/self/status"), "VmHWM:")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _look_on(self) -> None:
        ended = False
        while not ended:
            self.pss = max(self.pss, _field(Path("/proc/self/smaps_rollup"), "Pss:"))
            ended = self._ended.wait(EVERY_SECONDS)


def _field(path: Path, name: str) -> int:
    """Bytes of a line that /proc tells in kilobytes."""
    line = next(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024
