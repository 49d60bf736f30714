"""Signals that ask a job to end: `catch` turns them into exceptions, `deferred` holds them back while files appear.

Inside `finishing` the first SIGTERM or SIGUSR1 raises nothing: `asked_to_stop` tells of it, and the job ends where it
loses nothing, with `Stopped`. Python loses an exception that a signal raises inside some callbacks of the interpreter
("Exception ignored in ..."), so what was asked for is kept as well, and `honour` raises it again, as it does where
nobody wants any more what is done inside `wanted_by`. It knows no command and no format.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType

__all__ = [
    "STOPPED",
    "Stopped",
    "Terminated",
    "Unwanted",
    "ask_to_stop",
    "asked_to_stop",
    "catch",
    "deferred",
    "finishing",
    "honour",
    "take_back",
    "wanted_by",
]

STOPPED = 75
"""Exit code of a job that stopped as asked: EX_TEMPFAIL of sysexits.h, try again later."""

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))  # Windows has but two
_GENTLE = ("SIGTERM", "SIGUSR1")
"""What schedulers send some time before they kill."""

_asked: list[int] = []
_stop: list[int] = []
_finishing: list[bool] = []
_wanted: ContextVar[Callable[[], bool] | None] = ContextVar("wanted", default=None)


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


class Stopped(Terminated):
    """A job stopped as a signal asked, after the part that it was at; what is done is kept, and can be gone on with.

    Attributes
    ----------
    exit_code
        `STOPPED`.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = STOPPED


class Unwanted(BaseException):
    """Nobody wants any more what was being done."""


def catch() -> None:
    """Turn the signals into exceptions, unless someone (``nohup``) has already decided about them; forget old ones."""
    _asked.clear()
    _stop.clear()
    if threading.current_thread() is not threading.main_thread():
        return
    for number in _SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _end)


def honour() -> None:
    """Raise again what a signal has asked for since `catch`, if anything; or `Unwanted`."""
    if _asked:
        raise _as_error(_asked[0])
    wanted = _wanted.get()
    if wanted is not None and not wanted():
        raise Unwanted


@contextmanager
def wanted_by(wanted: Callable[[], bool]) -> Iterator[None]:
    """Have `honour` raise `Unwanted` in this thread, inside, as soon as a function says that nobody waits."""
    mark = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(mark)


@contextmanager
def finishing() -> Iterator[None]:
    """Let the first SIGTERM or SIGUSR1 that `catch` catches inside raise nothing: `asked_to_stop` tells of it.

    A second one raises `Terminated`, or for SIGUSR1 `Stopped`, as all do outside.
    """
    _finishing.append(True)
    try:
        yield
    finally:
        _finishing.pop()


def asked_to_stop() -> int | None:
    """Number of the signal that asked for an end after what is in flight; None when none did."""
    return _stop[0] if _stop else None


def ask_to_stop() -> None:
    """Ask for an end after what is in flight, as a signal does; from any thread."""
    if not _stop:
        _stop.append(int(signal.SIGTERM))


def take_back() -> None:
    """Forget that `ask_to_stop` was called: what it ended has ended."""
    _stop.clear()


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
        for number in came:
            signal.raise_signal(number)


def _end(number: int, frame: FrameType | None) -> None:
    if _finishing and not _stop and signal.Signals(number).name in _GENTLE:
        _stop.append(number)
        return
    _asked.append(number)
    raise _as_error(number)


def _as_error(number: int) -> BaseException:
    if number == signal.SIGINT:
        return KeyboardInterrupt()
    return Stopped(number) if signal.Signals(number).name == "SIGUSR1" else Terminated(number)
