"""The recipe from a checkpoint to a sealed bundle, top to bottom: prepare, judge, write, seal.

In: a loaded `Checkpoint` and options. Out: a bundle folder and a report. A precision whose figures are
outside their limits is left out; when none is left, nothing is sealed.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from scgpt_export.checkpoint import Checkpoint
from scgpt_export.judging import judge
from scgpt_export.options import ExportOptions, check
from scgpt_export.prepare import Prepared, prepare
from scgpt_export.prepare_generator import prepare_generator
from scgpt_export.sealing import written
from scgpt_runtime.bundle import seal
from scgpt_runtime.errors import OutputError
from scgpt_runtime.manifest import Manifest, ParityRecord

__all__ = ["ExportOptions", "ExportReport", "assemble", "check", "export", "prepare"]


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was sealed, and what was not.

    Attributes
    ----------
    manifest
        As sealed.
    left_out
        Figures outside their limits: of a whole precision (``embed``, ``tokens``) or of one head in it.
    """

    manifest: Manifest
    left_out: tuple[ParityRecord, ...]


def export(
    checkpoint: Checkpoint,
    output: Path,
    options: ExportOptions | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> ExportReport:
    """Make a bundle.

    Parameters
    ----------
    checkpoint
        As loaded.
    output
        Folder to make; must not exist.
    options
        Defaults where None.
    say
        Told of each step, for people.

    Returns
    -------
    What was sealed and what was left out.

    Raises
    ------
    OptionError
        A precision that is not known.
    OutputError
        The folder exists already, or cannot be written.
    ParityError
        No precision is within its limits; nothing is sealed.
    """
    options = options or ExportOptions()
    check(output, options)
    prepared = (prepare if checkpoint.config.generator is None else prepare_generator)(checkpoint, options, say)
    return assemble(prepared, output, options, say)


def assemble(prepared: Prepared, output: Path, options: ExportOptions, say: Callable[[str], None]) -> ExportReport:
    """Measure every precision and seal those that hold; errors as for `export`."""
    with _staging(output) as stage:
        judged = judge(prepared, options.precisions, stage, say)
        unsealed = written(prepared, judged, stage / "bundle", replace(options, name=options.name or output.name))
        say(f"sealing {output}")
        manifest = seal(stage / "bundle", unsealed)
        (stage / "bundle").rename(output)
    return ExportReport(manifest, judged.outside)


@contextmanager
def _staging(output: Path) -> Iterator[Path]:
    """A folder beside the output that is gone afterwards, so that the final name never holds half a bundle."""
    try:
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
            yield Path(folder)
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {error}. Nothing was left there.") from error
