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

__all__ = ["RowReport", "report_path"]

_HEAD = ("row", "cell", "reason")


def report_path(output: Path) -> Path:
    """Where the report of an output lies."""
    return output.with_name(f"{output.name}.bad.csv")


class RowReport:
    """A report that grows; it takes its name by `commit`.

    Parameters
    ----------
    final, temporary
        Its name, and where it is written.
    """

    def __init__(self, final: Path, temporary: Path) -> None:
        self._final, self._temporary = final, temporary
        self._count = 0

    @classmethod
    @contextmanager
    def beside(cls, output: Path) -> Iterator["RowReport"]:
        """Begin the report of an output."""
        final = report_path(output)
        with beside(final) as temporary:
            yield cls(final, temporary)

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
        """Bring it to the disk, so that little can go wrong when it is committed."""
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
