"""What a job's process is told, and what it tells: `Errand` in, words such as `Advanced` and `Done` out, as JSON.

Nothing in it is code: the process reads files of strangers, and its words are not trusted more than these.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from scgpt_infer.server.jobs.asked import JobAsked

__all__ = ["Advanced", "Done", "Errand", "Failed", "Lost", "Said", "Stopped", "Word", "words"]


@dataclass(frozen=True, slots=True)
class Errand:
    """The work of a job.

    Attributes
    ----------
    asked
        What shall become of the file.
    upload, results
        The file, and the folder for what is made of it.
    socket
        Where the model's process listens.
    room_bytes
        Most bytes of one file that is made, and of the result by its estimate.
    memory_bytes
        Most memory that the process may take.
    home
        Folder of the server, from which paths of models count that are not whole.
    """

    asked: JobAsked
    upload: str
    results: str
    socket: str
    room_bytes: int = 2**62
    memory_bytes: int = 2**62
    home: str = ""


class Advanced(msgspec.Struct, tag="advanced", frozen=True):
    """So many cells are answered, of so many."""

    done: int
    cells: int


class Said(msgspec.Struct, tag="said", frozen=True):
    """A step that takes time begins; a line for the log."""

    line: str


class Done(msgspec.Struct, tag="done", frozen=True):
    """All is made; what the run says of itself."""

    summary: dict[str, Any]


class Failed(msgspec.Struct, tag="failed", frozen=True):
    """It cannot be done; why, for people."""

    error: str


class Lost(msgspec.Struct, tag="lost", frozen=True):
    """It ended early, by no fault that is known to be the file's: to be tried again.

    Attributes
    ----------
    reason
        Why.
    waits
        Whether it is for the server to change that, so that the job is not given up for it.
    """

    reason: str
    waits: bool = False


class Stopped(msgspec.Struct, tag="stopped", frozen=True):
    """It ended as it was asked to; what is done is kept."""


Word = Advanced | Said | Done | Failed | Lost | Stopped

words: msgspec.json.Decoder[Word] = msgspec.json.Decoder(Word)
"""Reads a line."""
