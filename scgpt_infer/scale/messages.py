"""What a worker and its crew tell each other. Plain values, which every transport can carry.

To a worker: `Begin`, ranges of rows, `Stop`, and None when there are no more. From it: all others.
"""

import builtins
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scgpt_infer.ledger.marks import Mark
from scgpt_runtime import errors
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.providers import ProviderChoice

__all__ = [
    "Begin",
    "Done",
    "Ended",
    "Failed",
    "FromWorker",
    "Lost",
    "Ready",
    "Said",
    "Stop",
    "Ticked",
    "ToWorker",
]


@dataclass(frozen=True, slots=True)
class Begin:
    """The work may begin.

    Attributes
    ----------
    folder
        Where parts go.
    plan
        Bytes of the plan in that folder, as the crew sees them: the worker has to see the same.
    dtype
        What vectors are stored as.
    batch_tokens
        Batches are not larger than those of parts that are there already; 0: as they are.
    """

    folder: Path
    plan: bytes
    dtype: str
    batch_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Stop:
    """Finish the range that is at work, and end."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has opened cells and model.

    Attributes
    ----------
    where
        Which one it is, for people: machine and process.
    version
        Of scgpt-infer.
    hardware
        What computes: kind of processor or GPU.
    choice, settings, vector_id, batch_tokens
        See `scgpt_runtime.engine.Engine`.
    n_cells
        Cells that it sees.
    columns
        sha256 of the token ids of their genes.
    """

    where: str
    version: str
    hardware: str
    choice: ProviderChoice
    settings: TokenizerSettings
    vector_id: str
    batch_tokens: int
    n_cells: int
    columns: str


@dataclass(frozen=True, slots=True)
class Ticked:
    """So many more cells are answered."""

    cells: int


@dataclass(frozen=True, slots=True)
class Done:
    """A range is done, and its part is on the disk."""

    mark: Mark


@dataclass(frozen=True, slots=True)
class Said:
    """A line for people."""

    line: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A worker has done all that it was given.

    Attributes
    ----------
    seconds
        By stage.
    peak_bytes
        Most memory that it has held.
    """

    seconds: Mapping[str, float]
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker is gone without a word; told by what carries the messages."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """An error ended a worker.

    Attributes
    ----------
    kind
        Name of its class.
    message
        Its words.
    number
        Of an error of the system.
    """

    kind: str
    message: str
    number: int | None = None

    @classmethod
    def of(cls, error: BaseException) -> "Failed":
        """What is told of an error."""
        if isinstance(error, OSError) and error.errno is not None:
            where = f": {error.filename}" if error.filename else ""
            return cls("OSError", f"{error.strerror}{where}", error.errno)
        return cls(type(error).__name__, str(error))

    def error(self, where: str = "") -> Exception:
        """The error again, of the same class where it is one of ours: with the same exit code.

        Parameters
        ----------
        where
            Who met it; put before its words.
        """
        message = f"{where}: {self.message}" if where else self.message
        if self.kind == "OSError":
            return OSError(self.number, message)
        if self.kind == "MemoryError":
            return MemoryError(message)
        found = getattr(errors, self.kind, None)
        if not (isinstance(found, type) and issubclass(found, errors.ScgptInferError)):
            told = self.kind if hasattr(builtins, self.kind) else f"an error {self.kind}"
            return errors.InternalError(f"{where or 'A worker'} ended with {told}: {self.message}.")
        error = found.__new__(found)  # its words are whole already, also those that a class adds
        error.args = (message,)
        return error


ToWorker = Begin | range | Stop | None
FromWorker = Ready | Ticked | Done | Said | Ended | Failed | Lost
