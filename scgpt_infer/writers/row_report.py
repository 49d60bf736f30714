"""``x.bad.csv``: the cells of a result that have none, a line each: row, name and why. There when there are any.

It is beside every output, whatever its format, so that millions of cells need not be searched for NaN.
"""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from scgpt_infer.writers.sink import beside, fsync, output_errors
from scgpt_runtime.errors import OutputError

__all__ = ["RowReport", "check_report", "report_path"]

_HEAD = ("row", "cell", "reason")
_FIRST = f"{','.join(_HEAD)}\n".encode()


def report_path(output: Path) -> Path:
    """Where the report of an output lies."""
    return output.with_name(f"{output.name}.bad.csv")


def check_report(output: Path) -> None:
    """Make sure that a report can take its name, or that none can be left there.

    Parameters
    ----------
    output
        That it is beside.

    Raises
    ------
    OutputError
        Something has the name that is no report of ours.
    """
    path = report_path(output)
    if not path.exists() or (path.is_file() and _begins_as_ours(path)):
        return
    raise OutputError(
        f"{path} begins with other words than {','.join(_HEAD)}, so it is no row report, and the output {output.name} "
        "would replace or remove it. Give it, or the output, another name."
    )


def _begins_as_ours(path: Path) -> bool:
    with output_errors(path), path.open("rb") as file:
        return file.read(len(_FIRST)) == _FIRST


class RowReport:
    """A report that grows; it takes its name by `commit`.

    Parameters
    ----------
    output, temporary
        That it is beside, and where it is written.
    """

    def __init__(self, output: Path, temporary: Path) -> None:
        self._output, self._final, self._temporary = output, report_path(output), temporary
        self._count = 0

    @classmethod
    @contextmanager
    def beside(cls, output: Path) -> Iterator["RowReport"]:
        """Begin the report of an output."""
        with beside(report_path(output)) as temporary:
            yield cls(output, temporary)

    def add(self, first_row: int, reasons: Sequence[str], names: Sequence[str]) -> None:
        """Take the bad ones of the cells from a row on: those with a reason."""
        bad = [(first_row + place, names[place], reason) for place, reason in enumerate(reasons) if reason]
        if not bad:
            return
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows(bad if self._count else [_HEAD, *bad])
        with output_errors(self._final), self._temporary.open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(lines.getvalue())
        self._count += len(bad)

    def settle(self) -> None:
        """Bring it to the disk, and look once more at its name, so that little can go wrong when it is committed."""
        check_report(self._output)
        with output_errors(self._final):
            fsync(self._temporary)

    def commit(self) -> None:
        """Give it its name, when it was settled; where there are no bad cells, an earlier one goes."""
        with output_errors(self._final):
            if self._count:
                os.replace(self._temporary, self._final)
                fsync(self._final.parent)
                return
            with suppress(FileNotFoundError):
                self._final.unlink()
