"""What one front end has for all its clients: places for requests, and memory for their bodies, as `Limits`.

A client that asks much leaves some of each to others. It knows nothing of what requests say.
"""

from typing import Final

from scgpt_infer.server.refusals import QueueFull

__all__ = ["Limits", "Share", "Stay"]

_WEIGHT = 0.05
"""Of the newest request in the mean of how long one takes: the last 20 or so decide."""
_SOONEST, _LATEST = 1.0, 60.0

_TIMES_FREE: Final = 8
"""What one client may hold, in units of what would still be free: one alone comes to eight ninths, each of two to
eight seventeenths, and so on, without knowing who will ask (dynamic thresholds, Choudhury and Hahne 1998)."""
_BODIES, _LEAST_BYTES = 8, 256 * 2**20
"""Memory for bodies: so many of the largest, and no less than this."""
_ARRIVING, _LEAST_ARRIVING = 4, 1024
"""Bodies on their way: so many for each place, and no less than this. Each has a task and buffers, some 100 kB."""


class Share:
    """Some units of a thing that clients share.

    Parameters
    ----------
    most
        Units.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._free = most
        self._held: dict[str, int] = {}

    def has(self, client: str, units: int = 1) -> bool:
        """Whether a client may take so many more."""
        held = self._held.get(client, 0)
        return units <= self._free and (held == 0 or held + units <= _TIMES_FREE * (self._free - units))

    def take(self, client: str, units: int = 1) -> None:
        """Let a client have them."""
        if not units:
            return  # a client that holds nothing must not be remembered
        self._free -= units
        self._held[client] = self._held.get(client, 0) + units

    def give_back(self, client: str, units: int = 1) -> None:
        """Have them back."""
        if not units:
            return
        self._free += units
        self._held[client] -= units
        if not self._held[client]:
            del self._held[client]


class Limits:
    """What one front end has for requests.

    Parameters
    ----------
    most
        Requests that are worked on at a time.
    max_body_bytes
        Of one request.
    """

    def __init__(self, most: int, max_body_bytes: int = 0) -> None:
        self.most = most
        self.working = Share(most)
        self.arriving = Share(max(_ARRIVING * most, _LEAST_ARRIVING))
        self.memory = Share(max(_BODIES * max_body_bytes, _LEAST_BYTES))
        self.seconds = 0.0
        """That a request took of late."""

    def full(self, what: str) -> QueueFull:
        """The refusal of a request for which something is not there; it may be there after the time of a request."""
        again = min(max(self.seconds, _SOONEST), _LATEST)
        return QueueFull(f"{what}. Try again after the seconds that Retry-After gives.", again)


class Stay:
    """A request, from its head to the end of its answer, and what it has taken of the limits.

    Parameters
    ----------
    limits
        Of the front end.
    client
        Who asks.
    arriving
        Whether a body comes first: a place is taken when it is there, so that a slow client holds none.

    Raises
    ------
    QueueFull
        There is no place.
    """

    def __init__(self, limits: Limits, client: str, arriving: bool) -> None:
        self._limits = limits
        self._client = client
        self._bytes = 0
        self._in = limits.arriving
        self._check()  # though it takes none yet: a body that could not be worked on need not come
        if not arriving:
            self._in = limits.working
        elif not self._in.has(client):
            raise limits.full("As many requests are being received as this server takes at a time from you and others")
        self._in.take(client)

    def keep(self, size: int) -> None:
        """Have so many bytes of its body in memory.

        Raises
        ------
        QueueFull
            Bodies take all the memory that there is for them, or this client's the most of it.
        """
        if not self._limits.memory.has(self._client, size):
            raise self._limits.full("The requests that are here take all the memory that there is for bodies")
        self._limits.memory.take(self._client, size)
        self._bytes += size

    def drop(self, size: int) -> None:
        """Have so many fewer."""
        self._limits.memory.give_back(self._client, size)
        self._bytes -= size

    def work(self) -> None:
        """Take a place: the body is there.

        Raises
        ------
        QueueFull
            There is none.
        """
        if self._in is self._limits.working:
            return
        self._check()
        self._in.give_back(self._client)
        self._in = self._limits.working
        self._in.take(self._client)

    def leave(self, seconds: float) -> None:
        """Give back all that was taken for so many seconds."""
        if self._bytes:
            self.drop(self._bytes)
        self._in.give_back(self._client)
        if self._in is self._limits.working:
            self._limits.seconds += _WEIGHT * (seconds - self._limits.seconds)

    def _check(self) -> None:
        if not self._limits.working.has(self._client):
            raise self._limits.full(
                f"{self._limits.most:,} requests are being worked on, as many as one front end takes at a time, or "
                "most of these are yours"
            )
