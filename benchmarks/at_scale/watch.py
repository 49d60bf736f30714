"""What a run holds while it works: memory of its process, bytes in a folder of parts.

In: nothing but Linux's /proc, and a folder. Out: the most that was seen. It looks twice a second in a thread of its
own; ``peak`` is the kernel's own mark, which misses nothing.
"""

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Watch"]

EVERY_SECONDS = 0.5


class Watch:
    """Watches this process while its context is open.

    Parameters
    ----------
    folder
        Its bytes are watched, where and while it exists.

    Attributes
    ----------
    pss
        Most proportional set size that was seen, bytes.
    held
        Most bytes that the folder held.
    """

    def __init__(self, folder: Path) -> None:
        self.pss = self.held = 0
        self._folder, self._ended = folder, threading.Event()
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
        looks = 0
        while not self._ended.wait(EVERY_SECONDS):
            self.pss = max(self.pss, _field(Path("/proc/self/smaps_rollup"), "Pss:"))
            looks += 1
            if looks % 8 == 1:  # ten thousand parts are not to be counted all the time
                self.held = max(self.held, _bytes_in(self._folder))


def _field(path: Path, name: str) -> int:
    """Bytes of a line that /proc tells in kilobytes."""
    line = next(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.glob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # renamed or removed meanwhile
            continue
    return total
