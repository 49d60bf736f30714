"""What is opened once and stays open: `Kept`, for a process that answers many calls with one bundle.

In: a key, and how the thing is opened. Out: the thing, the same for the same key. It does not know what is kept.
"""

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

from scgpt_runtime.errors import InternalError

__all__ = ["Kept"]

_T = TypeVar("_T")


@dataclass(slots=True)
class _Place:
    """Room for one thing; its lock is held while the thing is opened, so that it is opened once."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    held: tuple[Any, Callable[[Any], None]] | None = None


class Kept:
    """Things that stay open until this is closed. A context manager; several threads may ask at once.

    Whoever is given one must not close it. One thing that takes long to open keeps nobody from the others.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[Hashable, _Place] | None = {}

    def of(self, key: Hashable, opened: Callable[[], _T], close: Callable[[_T], None] = lambda held: None) -> _T:
        """What is kept under a key; opened now where there is none yet.

        Parameters
        ----------
        key
            What decides the thing; it must tell apart all that `opened` may give.
        opened
            Opens it. Where that fails nothing is kept, and the next who asks tries again.
        close
            Lets go of it in the end.

        Raises
        ------
        InternalError
            All was closed before.
        """
        with self._lock:
            place = self._open().setdefault(key, _Place())
        with place.lock:
            self._open()
            if place.held is None:
                place.held = opened(), close
            found: _T = place.held[0]
            return found

    def close(self) -> None:
        """Let go of everything, the last first; what is being opened is waited for. Closing twice does nothing."""
        with self._lock:
            places, self._places = self._places or {}, None
        for place in reversed(places.values()):
            with place.lock:
                if place.held is not None:
                    held, close = place.held
                    close(held)

    def _open(self) -> dict[Hashable, _Place]:
        if self._places is None:
            raise InternalError("Something was asked of what is kept open after it was closed.")
        return self._places

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
