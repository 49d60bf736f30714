"""Signals that ask a job to end: `catch` turns them into exceptions, `deferred` holds them back while files appear.

Python loses an exception that a signal raises inside some callbacks of the interpreter ("Exception ignored in
..."), so what was asked for is kept as well, and `honour` raises it again. It knows no command and no format.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Terminated", "catch", "deferred", "honour"]

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))  # no SIGHUP on Windows

_asked: list[int] = []


class Terminated(BaseException):
    """A signal asks the process to end; raised so that context managers can clean up on the way out.

    Attributes
    ----------
    exit_code
        128 plus the signal's number, as shells count it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def catch() -> None:
    """Turn the signals into exceptions, unless someone (``nohup``) has already decided about them; forget old ones."""
    _asked.clear()
    if threading.current_thread() is not threading.main_thread():
        return
    for number in _SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _end)


def honour() -> None:
    """Raise again what a signal has asked for since `catch`, if anything."""
    if _asked:
        raise _as_error(_asked[0])


@contextmanager
def deferred() -> Iterator[None]:
    """Let signals that come inside take effect at the end. Outside the main thread, where none arrive, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    ours = {number: handler for number, handler in handlers.items() if handler not in (None, signal.SIG_IGN)}
    try:
        for number in ours:
            signal.signal(number, lambda which, frame: came.append(which))
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
        for number in came[:1]:
            signal.raise_signal(number)


def _end(number: int, frame: FrameType | None) -> None:
    _asked.append(number)
    raise _as_error(number)


def _as_error(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)
