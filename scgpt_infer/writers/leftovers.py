"""What a killed run has left beside its output: `sweep` removes it, when nobody else is at work on that output.

Unfinished files are known by the names that `sink.beside` gives them, unfinished folders by those of `folder.staged`
and by what is in them.
"""

import re
from contextlib import suppress
from pathlib import Path

from scgpt_infer.writers import writer_of
from scgpt_infer.writers.folder import STAGE, clear_stage
from scgpt_infer.writers.row_report import report_path

__all__ = ["sweep"]

_RANDOM = r"[a-z0-9_]{8}"
"""What `tempfile` makes names different with."""

_CUT = 64
"""Characters of a name that unfinished files have; longer ones cannot be told from each other."""


def sweep(output: Path) -> None:
    """Remove unfinished files of an output and of what lies beside it; a former output that was set aside comes back.

    Parameters
    ----------
    output
        Final name. Nobody else writes it: its lock is held.
    """
    writer = writer_of(output)
    finals = (output, *map(output.with_suffix, writer.beside), report_path(output))
    names = "|".join(re.escape(final.name) for final in finals if len(final.name) <= _CUT)
    if not names:
        return
    files = re.compile(rf"\.({names})\.{_RANDOM}\.part")
    stages = re.compile(rf"\.{re.escape(output.name)}\.{_RANDOM}{re.escape(STAGE)}")
    with suppress(OSError):  # of use, but not needed
        for path in list(output.parent.iterdir()):
            if path.is_symlink():
                continue
            if files.fullmatch(path.name) and path.is_file():
                path.unlink()
            elif writer.ours is not None and stages.fullmatch(path.name) and path.is_dir():
                clear_stage(path, output)
