"""Which range of rows goes to which worker: `Zones`. Each worker gets neighbours, so that it reads a file in order.

A worker whose zone is empty takes half of the largest one that is left. It knows no workers, only their numbers.
"""

from collections import deque
from collections.abc import Iterable

__all__ = ["Zones"]


class Zones:
    """Ranges that wait for a worker.

    Parameters
    ----------
    spans
        In order.
    """

    def __init__(self, spans: Iterable[range]) -> None:
        self._of: dict[int, deque[range]] = {}
        self._free = [deque(spans)]

    def __len__(self) -> int:
        """Ranges that wait."""
        return sum(map(len, (*self._of.values(), *self._free)))

    def take(self, number: int) -> range | None:
        """The next range for a worker; None when none is left."""
        if not self._of.get(number):
            self._of[number] = self._zone()
        own = self._of[number]
        return own.popleft() if own else None

    def leave(self, number: int) -> None:
        """A worker takes no more: its zone is free."""
        self._free.append(self._of.pop(number, deque()))

    def put_back(self, spans: Iterable[range]) -> None:
        """Ranges that were taken wait again; they come first."""
        self._free.insert(0, deque(spans))

    def _zone(self) -> deque[range]:
        """A zone that nobody has, or the second half of the largest one."""
        self._free = [zone for zone in self._free if zone]
        if self._free:
            return self._free.pop(0)
        largest = max(self._of.values(), key=len, default=deque[range]())
        half: deque[range] = deque()
        for _ in range((len(largest) + 1) // 2):
            half.appendleft(largest.pop())
        return half
