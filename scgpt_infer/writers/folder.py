"""A folder as an output: looked at before the work, and there under its name when it is whole, or not at all.

It does not know what the folder holds.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scgpt_infer.interrupts import deferred, honour
from scgpt_infer.writers.sink import fsync, output_errors
from scgpt_runtime.errors import OutputError

__all__ = ["check_output", "published"]


def check_output(output: Path) -> None:
    """Make sure that something new can appear under this name.

    Raises
    ------
    OutputError
        It exists, or its parent does not.
    """
    if output.exists():
        raise OutputError(f"{output} exists already. Give another name, or remove it first.")
    if not output.parent.is_dir():
        raise OutputError(f"The folder {output.parent} of the output {output.name} does not exist. Make it first.")


@contextmanager
def published(output: Path) -> Iterator[Path]:
    """Give an empty folder that becomes ``output`` on the way out, all of it or none.

    Raises
    ------
    OutputError
        It exists, or cannot be written there.
    """
    check_output(output)
    with output_errors(output), tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as stage:
        folder = Path(stage) / "whole"
        folder.mkdir()
        yield folder
        for path in (*folder.rglob("*"), folder):
            fsync(path)
        honour()
        with deferred():
            folder.rename(output)
            fsync(output.parent)
