"""Progress on standard error: one line that is redrawn in a terminal, a plain line now and then elsewhere.

In: how many cells are done, of how many. It knows nothing of what the cells go through.
"""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

__all__ = ["Progress", "aloud", "clock"]

_REDRAW_S = 0.1
_PLAIN_LINE_S = 5.0
_WIDTH = 24
# What is told of the speed before is that of what is done once, such as compiling.
_SURE_S, _SURE_CELLS, _SURE_PART = 2.0, 300, 20


class Progress:
    """Shows ``done`` of ``total`` cells, cells a second and the time left; call it with both numbers.

    The rate counts from the first call, so that loading the model does not slow it down; it is told once it tells
    something.

    Parameters
    ----------
    label
        Word in front, such as ``embed``.
    stream
        Where to write; standard error by default.
    now
        Clock in seconds; tests give their own.
    """

    def __init__(self, label: str, stream: TextIO | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._label = label
        self._stream = stream or sys.stderr
        self._now = now
        self._live = self._stream.isatty()
        self._began: tuple[float, int] | None = None
        self._shown = float("-inf")
        self._ended = False
        self._open_line = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open_line:
            self._stream.write("\n")
            self._stream.flush()

    def __call__(self, done: int, total: int) -> None:
        """Report progress.

        Parameters
        ----------
        done, total
            Cells finished, and cells in all.
        """
        now = self._now()
        if self._began is None:
            self._began = (now, done)
        soon = done < total and now - self._shown < (_REDRAW_S if self._live else _PLAIN_LINE_S)
        if soon or self._ended:
            return
        self._ended = done >= total
        self._shown = now
        line = self._line(now, done, total)
        self._stream.write(f"\r\x1b[2K{line}" if self._live else f"{line}\n")
        self._stream.flush()
        self._open_line = self._live

    def _line(self, now: float, done: int, total: int) -> str:
        began, first = self._began or (now, done)
        rate = (done - first) / (now - began) if now > began else 0.0
        sure = now - began >= _SURE_S and done - first >= min(_SURE_CELLS, total / _SURE_PART)
        words = [self._label]
        if self._live:
            filled = _WIDTH * done // max(total, 1)
            words.append("█" * filled + "░" * (_WIDTH - filled))
        words.append(f"{done:,} of {total:,} cells")
        if rate > 0 and (sure or done >= total):
            words.append(f"{rate:,.1f} cells/s")
            if done < total:
                words.append(f"{clock((total - done) / rate)} left")
        return "  ".join(words)


def aloud(line: str) -> None:
    """Tell of a step, on standard error."""
    sys.stderr.write(f"{line}\n")


def clock(seconds: float) -> str:
    """Seconds as ``0.4 s``, ``40 s``, ``3 min 20 s`` or ``2 h 05 min``."""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
