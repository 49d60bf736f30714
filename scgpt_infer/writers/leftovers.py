"""What a killed run has left beside its output: `sweep` removes it, when nobody else is at work on that output.

Unfinished files are known by the names that `sink.beside` and `folder.published` give them.
"""

import re
import shutil
from contextlib import suppress
from pathlib import Path

from scgpt_infer.writers import writer_of
from scgpt_infer.writers.row_report import report_path

__all__ = ["sweep"]

_RANDOM = r"[a-z0-9_]{8}"
"""What `tempfile` makes names different with."""

_CUT = 64
"""Characters of a name that unfinished files have; longer ones cannot be told from each other."""


def sweep(output: Path) -> None:
    """Remove unfinished files of an output and of what lies beside it.

    Parameters
    ----------
    output
        Final name. Nobody else writes it: its lock is held.
    """
    finals = (output, *map(output.with_suffix, writer_of(output).beside), report_path(output))
    names = "|".join(re.escape(final.name) for final in finals if len(final.name) <= _CUT)
    unfinished = re.compile(rf"\.({names})\.{_RANDOM}(\.part)?") if names else None
    with suppress(OSError):  # of use, but not needed
        for path in list(output.parent.iterdir()):
            if unfinished is not None and unfinished.fullmatch(path.name):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
