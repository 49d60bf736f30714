"""A folder as an output: looked at before the work, and there under its name when it is whole, or not at all.

It does not know what the folder holds.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from scgpt_infer.interrupts import deferred, honour
from scgpt_infer.writers.sink import fsync, output_errors
from scgpt_runtime.errors import OutputError

__all__ = ["STAGE", "Ours", "Stage", "check_output", "clear_stage", "published", "staged"]

Ours = Callable[[Path], bool]
"""Whether a folder is one that we wrote, so that another may take its place."""

STAGE = ".stage"
"""What the names of folders end with in which others are written."""

_WHOLE, _FORMER = "whole", "former"


def check_output(output: Path, ours: Ours | None = None) -> None:
    """Make sure that something new can appear under this name.

    Parameters
    ----------
    output
        The folder.
    ours
        Tells which folders may be replaced; None: none may.

    Raises
    ------
    OutputError
        It exists and may not be replaced, or its parent does not.
    """
    if output.exists() and not (ours is not None and output.is_dir() and ours(output)):
        written = "" if ours is None else ", and scgpt-infer did not write it as it is now"
        raise OutputError(f"{output} exists already{written}. Give another name, or remove it first.")
    if not output.parent.is_dir():
        raise OutputError(f"The folder {output.parent} of the output {output.name} does not exist. Make it first.")


@dataclass(frozen=True, slots=True)
class Stage:
    """A folder on its way to its name.

    Attributes
    ----------
    folder
        Where it is written, beside its final name.
    output, ours
        Its final name, and what may be replaced there.
    """

    folder: Path
    output: Path
    ours: Ours | None = None

    def publish(self) -> None:
        """Bring all of it to the disk and give it its name; a former one of ours goes.

        Raises
        ------
        OutputError
            Something else has the name by now.
        """
        for path in (*self.folder.rglob("*"), self.folder):
            fsync(path)
        honour()
        check_output(self.output, self.ours)
        with deferred():
            former = self.folder.with_name(_FORMER)
            if self.output.exists():
                self.output.rename(former)
            try:
                self.folder.rename(self.output)
            except BaseException:
                with suppress(FileNotFoundError):
                    former.rename(self.output)
                raise
            fsync(self.output.parent)


@contextmanager
def staged(output: Path, ours: Ours | None = None) -> Iterator[Stage]:
    """Give an empty folder that can be published; what was not is removed on the way out.

    Raises
    ------
    OutputError
        The name is taken, or nothing can be written there.
    """
    check_output(output, ours)
    prefix = f".{output.name[:64]}."
    with output_errors(output), tempfile.TemporaryDirectory(STAGE, prefix, output.parent) as above:
        folder = Path(above) / _WHOLE
        folder.mkdir()
        yield Stage(folder, output, ours)


def clear_stage(above: Path, output: Path) -> None:
    """Remove what a killed run has left of a stage, where that is all there is in it.

    A former output that was set aside, and in whose place nothing has come yet, gets its name back.
    """
    if not {path.name for path in above.iterdir()} <= {_WHOLE, _FORMER}:
        return
    former = above / _FORMER
    if former.exists() and not output.exists():
        former.rename(output)
        fsync(output.parent)
    shutil.rmtree(above)


@contextmanager
def published(output: Path) -> Iterator[Path]:
    """Give an empty folder that becomes ``output`` on the way out, all of it or none.

    Raises
    ------
    OutputError
        It exists, or cannot be written there.
    """
    with staged(output) as stage:
        yield stage.folder
        stage.publish()
