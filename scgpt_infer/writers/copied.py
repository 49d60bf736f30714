"""Whether what an output copies is still what the work began with: `state_of` at its beginning, `Copied` afterwards.

A file is its size, time and inode; of a store, the files of its tables are. It reads none of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from scgpt_infer.writers.sink import State, Target
from scgpt_runtime.errors import OutputError

__all__ = ["Copied", "state_of"]

_TABLES = ("obs", "var")


def state_of(source: Path | None) -> State:
    """What tells a file, or the tables of a store, from a later one of its name; empty where there is none."""
    return () if source is None else tuple(_states(source))


@dataclass(frozen=True, slots=True)
class Copied:
    """The source of an output.

    Attributes
    ----------
    target
        The output.
    state
        Of its source when the work began.
    """

    target: Target
    state: State

    @classmethod
    def of(cls, target: Target) -> Self:
        """The source as the target knows it; as it is now where the target does not tell."""
        return cls(target, target.state or state_of(target.source))

    @property
    def is_in_place(self) -> bool:
        """Whether the output takes the place of its source."""
        return self.target.source == self.target.path

    def check(self) -> None:
        """Make sure that the source is the same: to be asked before it is copied and after.

        Raises
        ------
        OutputError
            It was changed, replaced or removed.
        """
        if state_of(self.target.source) == self.state:
            return
        if self.is_in_place:
            raise OutputError(
                f"{self.target.path} was changed by another program while it was being embedded, so the embedding "
                "was not added to it. Run again when nothing else writes to it."
            )
        raise OutputError(
            f"{self.target.source} was changed, replaced or removed since the work began, and {self.target.path.name} "
            "copies what is told of each cell from it: its rows may be of other cells. Bring it back as it was, its "
            "time too, and run the same command again."
        )


def _states(source: Path) -> Iterator[tuple[str, int, int, int]]:
    for file in _files(source):
        try:
            found = file.stat()
        except OSError:
            continue  # gone: it lacks in the state
        yield str(file), found.st_size, found.st_mtime_ns, found.st_ino


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source]
    tables = (file for name in _TABLES for file in (source / name).rglob("*") if file.is_file())
    return sorted((*(file for file in source.iterdir() if file.is_file()), *tables))
