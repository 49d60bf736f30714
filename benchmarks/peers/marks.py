"""What a side tells the driver about its own run: when answers came, and what it did apart.

In: the moment at which the driver started the process. Out: one JSON file. It knows no side.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Marks"]


@dataclass(slots=True)
class Marks:
    """Moments of one run, in seconds since the driver started the process.

    Attributes
    ----------
    started
        `time.monotonic` of the driver when it started this process; all processes of a machine share that clock.
    answers
        Moment and number of cells of each answer, in the order in which they came.
    apart
        Seconds by name of what is reported but not counted: loading the original's vocabulary.
    facts
        What a reader of the results should know of the side: versions, settings, what was worked around.
    """

    started: float
    answers: list[tuple[float, int]] = field(default_factory=list)
    apart: dict[str, float] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)

    def answered(self, cells: int) -> None:
        """So many more cells have their embedding."""
        self.answers.append((time.monotonic() - self.started, cells))

    @contextmanager
    def set_apart(self, name: str) -> Iterator[None]:
        """Time something that is not counted."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.apart[name] = self.apart.get(name, 0.0) + time.monotonic() - begun

    def write(self, path: Path) -> None:
        """Leave the marks for the driver."""
        told = {"answers": self.answers, "apart": self.apart, "facts": self.facts}
        path.write_text(json.dumps(told), encoding="utf-8")
