"""How many tokens a second a model answers, from what it has answered lately: `Rate`."""

__all__ = ["Rate"]

_MEMORY = 64
"""Batches after which a measurement counts for about a third: enough to even out lengths, few enough to follow."""


class Rate:
    """Tokens a second, all instances together; the newest batches count most.

    Parameters
    ----------
    instances
        Batches that are answered at a time; of more that have begun, the rest wait for an instance.
    """

    def __init__(self, instances: int) -> None:
        self._instances = instances
        self._tokens = 0.0
        self._seconds = 0.0  # of all instances
        self._begun = 0
        self._since = 0.0
        self._busy = 0.0  # seconds of all instances since a batch last ended

    def begin(self, now: float) -> None:
        """A batch begins, by the clock of `time.monotonic`."""
        self._pass(now)
        self._begun += 1

    def end(self, tokens: int, now: float) -> None:
        """A batch ends, in which so many tokens were answered."""
        self._pass(now)
        self._begun -= 1
        if tokens:
            self.add(tokens, self._busy)
            self._busy = 0.0

    def _pass(self, now: float) -> None:
        self._busy += min(self._begun, self._instances) * (now - self._since)
        self._since = now

    def add(self, tokens: int, seconds: float) -> None:
        """So many tokens were answered in so many seconds of instances."""
        kept = 1 - 1 / _MEMORY
        self._tokens = self._tokens * kept + tokens
        self._seconds = self._seconds * kept + seconds

    @property
    def tokens_per_second(self) -> float:
        """0 until something was measured."""
        return self._instances * self._tokens / self._seconds if self._seconds else 0.0

    def seconds(self, tokens: int) -> float:
        """How long so many tokens take; 0 until something was measured."""
        rate = self.tokens_per_second
        return tokens / rate if rate else 0.0
