"""What is known of a job: `Job`, with what its files tell, `Submitted`, `Progress` and `Ended`. It reads only locks."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from scgpt_infer.ledger.lock import holder_of
from scgpt_infer.server.jobs.asked import JobAsked

__all__ = ["Ended", "Job", "Made", "Progress", "State", "Submitted", "upload_in"]

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Submitted:
    """``job.json``: what was asked, by whom and when.

    Attributes
    ----------
    asked
        What shall become of the file.
    owner
        Name of the API key; empty where there are none.
    created
        Seconds since 1970.
    """

    asked: JobAsked
    owner: str
    created: float


@dataclass(frozen=True, slots=True)
class Progress:
    """``progress.json``: how far the work is.

    Attributes
    ----------
    cells_done, cells
        Cells that are answered and cells in all; None until they are counted.
    tries
        Times that the work was begun and ended without a cell more.
    """

    cells_done: int = 0
    cells: int | None = None
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Made:
    """A file that a job has made."""

    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Ended:
    """``end.json``: what came of a job.

    Attributes
    ----------
    state
        How it ended.
    at
        When, in seconds since 1970.
    error
        Why it failed, for people.
    made
        Results.
    summary
        What the run says of itself.
    """

    state: Literal["succeeded", "failed", "cancelled"]
    at: float
    error: str | None = None
    made: tuple[Made, ...] = ()
    summary: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Job:
    """A job, as its files told when they were read.

    Attributes
    ----------
    id
        32 hexadecimal digits.
    folder
        Where its files lie.
    submitted, progress
        See there.
    ended
        None while there is something to do.
    """

    id: str
    folder: Path
    submitted: Submitted
    progress: Progress
    ended: Ended | None

    @property
    def state(self) -> State:
        """How it stands."""
        if self.ended is not None:
            return self.ended.state
        return "queued" if holder_of(self.lock) is None else "running"

    @property
    def lock(self) -> Path:
        """The lease of whoever works on it."""
        return self.folder / "lock"

    @property
    def upload(self) -> Path:
        """The file that was uploaded."""
        return upload_in(self.folder, self.submitted.asked.suffix)

    @property
    def results(self) -> Path:
        """Folder of what is made of it."""
        return self.folder / "results"


def upload_in(folder: Path, suffix: str) -> Path:
    """Where an upload lies: under a name of ours, whatever the client calls it."""
    return folder / "upload" / f"cells{suffix}"
